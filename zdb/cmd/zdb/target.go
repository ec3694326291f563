package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"qsfs/zdb/client"
)

// A target is a running server, and who asks it for what namespace.
type target struct {
	address   string
	namespace string
	password  string
	admin     string
}

const addressUsage = "`ADDRESS` of the server: host:port, unix:/path or tls:host:port?sha256=FINGERPRINT"

func (t *target) register(fl *pflag.FlagSet) {
	fl.StringVar(&t.address, "address", "127.0.0.1:9900", addressUsage)
	fl.StringVar(&t.namespace, "namespace", "default", "`NAME` of the namespace")
	fl.StringVar(&t.password, "password", os.Getenv("ZDB_PASSWORD"), "`PASSWORD` of the namespace, also from ZDB_PASSWORD")
	fl.StringVar(&t.admin, "admin", os.Getenv("ZDB_ADMIN"), "admin `PASSWORD`, also from ZDB_ADMIN")
	for _, secret := range []string{"password", "admin"} {
		fl.Lookup(secret).DefValue = "" // help does not print the environment
	}
}

func (t *target) options() client.Options {
	return client.Options{Address: t.address, Namespace: t.namespace, Password: client.Secret(t.password), Admin: client.Secret(t.admin)}
}

func (t *target) dial(ctx context.Context) (*client.Client, error) {
	if err := checkAddress(t.address); err != nil {
		return nil, err
	}
	return client.Dial(ctx, t.options())
}

func checkAddress(address string) error {
	if _, _, err := client.ParseAddress(address); err != nil {
		return usageError{err}
	}
	return nil
}
