package config

import (
	"errors"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(six()))
	f.Add([]byte(six() + "[compression]\nalgorithm = \"none\"\n[qsfs]\nmin_secrecy = 3\nslice = \"128KiB\"\nhedge = false\n[qsfs.fallback]\nminimal_shards = 3\nexpected_shards = 4\n"))
	f.Add([]byte(six() + "[qsfs]\npassphrase_file = \"credential:p\"\n[[qsfs.argon2id]]\nkey_epoch = 1\nsalt = \"00112233445566778899aabbccddeeff\"\ntime = 3\nmemory = \"64MiB\"\nthreads = 4\ncheck = \"0011223344556677\"\n"))
	f.Add([]byte("root = \"/x\"\npid_file = \"/p\"\nprometheus_port = 1\nmax_zdb_data_dir_size = 100\nzdbfs_mountpoint = \"/m\"\n[encryption]\nalgorithm = \"AES\"\n"))
	f.Add([]byte("groups = [{name = \"a\", backends = [{address = \"h:1\", durable = \"30s\"}, {address = \"unix:/s\", durable = \"never\"}, 3]}, 4]\nmeta.config.prefix = \"x\"\nmeta.config.backends = [\n # none\n {address=\"h:2\"},\n]\n"))
	f.Add([]byte("[qsfs]\nsync_interval = \"1h\"\ncache_size = 5\nhedge = \"yes\"\noffline_mount = true\nstate = 1\nsync = \"maybe\"\n[meta]\ntype = \"etcd\"\n"))
	f.Add([]byte("a = 1\n[b.x]\n[[c]]\n[c.d]\n\"q.x\" = 2\nd = 2026-11-21T00:00:00Z\ne = 1.5\n"))
	f.Add([]byte("redundnat_groups = 1\nminimal_shards = -1\nexpected_shards = 1.5\nsocket = [1]\nroot = 2026-11-21\ngroups = 1\n[meta]\nconfig = 3\n[qsfs]\ncache_size = -1\nzstor_memory = \"x\"\nflush_interval = 3\nfetch_timeout = \"-1s\"\noffline_mount = \"perhaps\"\nargon2id = [{threads = 300, salt = \"00\"}]\nmount = true\nstate = {a = 1}\n"))
	f.Add([]byte("groups = [1]\n[compression]\nalgorithm = \"snappy\"\n[qsfs]\nslice = \"auto\"\nmount = \"/a\"\ncache_size = 1\n[meta.config]\nencryption = {}\n"))
	f.Add([]byte("zdbfs_mountpoint = \"/m\"\nmax_zdb_data_dir_size = 1\n[qsfs]\nmount = \"/a\"\ncache_size = 1\n"))
	f.Add([]byte("[[a]\n"))
	for _, bad := range []string{ // addresses and namespaces
		"", "h", ":1", "h:0", "h:65536", "h:x", "unix:s", "unix:/s", "[::1]:9", "10.0.0.1:9901",
	} {
		f.Add([]byte(strings.ReplaceAll(six(), "127.0.0.1:9903", bad)))
	}
	f.Add([]byte(strings.ReplaceAll(six(), "127.0.0.1", "10.0.0.1"))) // one machine in three groups
	f.Add([]byte(strings.ReplaceAll(six(), "9903", "9901")))
	f.Add([]byte(strings.ReplaceAll(six(), "namespace = \"data\"", "namespace = \"a b\"")))
	f.Add([]byte(strings.ReplaceAll(six(), "namespace = \"meta\"", "namespace = \"data\"")))
	f.Add([]byte("socket = \"s\"\nroot = \"r\"\n" + six() + "[qsfs]\nstate = \"x\"\nmount = \"y\"\n"))
	f.Add([]byte("socket = \"/" + strings.Repeat("s", 107) + "\"\n" + six() + "[qsfs]\nstate = \"/mnt/a/state\"\nmount = \"/mnt/a\"\n"))
	f.Add([]byte(six() + "[qsfs]\nstate = \"/mnt\"\nmount = \"/mnt/a\"\nslice = \"65KiB\"\n"))
	f.Add([]byte(six() + "[qsfs]\nslice = \"4MiB\"\nzstor_memory = \"8MiB\"\ncache_size = \"1MiB\"\nkey_check = \"zz\"\nkey_file = \"credential:/\"\n"))
	f.Add([]byte(six() + "[qsfs]\nmax_unshipped_age = \"1s\"\nsync_interval = \"2s\"\npassphrase_file = \"p\"\nack_floor = 9\ncache_size = \"99999999TiB\"\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse("f", doc)
		if err != nil {
			var list Errors
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &list) || len(list) == 0 || list.Error() == "" {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("what was accepted is refused the second time: %v", err)
		}
	})
}
