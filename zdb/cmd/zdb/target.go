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
	t.registerAdmin(fl)
	fl.Lookup("password").DefValue = "" // help does not print the environment
}

func (t *target) registerAdmin(fl *pflag.FlagSet) {
	fl.StringVar(&t.admin, "admin", os.Getenv("ZDB_ADMIN"), "admin `PASSWORD`, also from ZDB_ADMIN")
	fl.Lookup("admin").DefValue = ""
}

func (t *target) options() client.Options {
	return client.Options{Address: t.address, Namespace: t.namespace, Password: client.Secret(t.password), Admin: client.Secret(t.admin)}
}

func (t *target) dial(ctx context.Context) (*client.Client, error) { return dial(ctx, t.options()) }

// dialAdmin connects for what names its namespace itself and needs no session in it.
func (t *target) dialAdmin(ctx context.Context) (*client.Client, error) {
	return dial(ctx, client.Options{Address: t.address, Admin: client.Secret(t.admin)})
}

func dial(ctx context.Context, o client.Options) (*client.Client, error) {
	if err := checkAddress(o.Address); err != nil {
		return nil, err
	}
	return client.Dial(ctx, o)
}

func checkAddress(address string) error {
	if _, _, err := client.ParseAddress(address); err != nil {
		return usageError{err}
	}
	return nil
}

// A place is where a namespace is worked on: at a running server, or in the directories of one that does not run.
type place struct {
	target
	store
}

func (p *place) register(fl *pflag.FlagSet) {
	p.target.register(fl)
	p.store.register(fl)
}

// registerAdmin is register for what takes the admin's password only.
func (p *place) registerAdmin(fl *pflag.FlagSet) {
	fl.StringVar(&p.address, "address", "127.0.0.1:9900", addressUsage)
	fl.StringVar(&p.namespace, "namespace", "default", "`NAME` of the namespace")
	p.target.registerAdmin(fl)
	p.store.register(fl)
}
