package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// Stored says what the engine calls a namespace in a data directory, and whether its keys are ids, which the engine has big
// endian. One that the list of namespaces does not know, or a directory without such a list, has its own name.
func Stored(dataDir, name string) (store string, sequential bool, err error) {
	all, _, err := loadRegistry(dataDir)
	if err != nil {
		return "", false, err
	}
	if set := all[name]; set != nil {
		return storeOf(name, set), set.Sequential, nil
	}
	return name, false, nil
}

// OfflineOptions are those with which a tool opens a namespace of a server that does not run; sequential as Stored says.
func OfflineOptions(sequential bool) zdb.NamespaceOptions {
	o := Options{NoCompaction: true, Ballast: -1}.namespaceOptions()
	if sequential {
		o.Plain = nextIDKey
	}
	return o
}

// Names lists the namespaces of a data directory by the names that the list of namespaces gives them, what was
// set aside for keep_deleted too; found is false where there is no such list.
func Names(dataDir string) (names []string, found bool, err error) {
	all, found, err := loadRegistry(dataDir)
	for name, set := range all {
		if !set.Removing {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, found, err
}

// SetPassword changes the password of a namespace in the data directory of a server that does not run; an empty one
// removes it. A server that runs has the directory locked: zdb.ErrLocked.
func SetPassword(dataDir, name, password string) (err error) {
	if len(password) > maxPropertyValue {
		return fmt.Errorf("a password of a namespace has at most %d bytes", maxPropertyValue)
	}
	if name == defaultNamespace {
		return errors.New("the default namespace takes no password of its own, see zdb serve --protect")
	}
	_, found, err := loadRegistry(dataDir)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s holds no %s: it is not the data directory of a server", dataDir, registryName)
	}
	lock, err := vfs.OS.Lock(filepath.Join(dataDir, ".lock"))
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	all, _, err := loadRegistry(dataDir) // nobody changes it any more
	if err != nil {
		return err
	}
	set := all[name]
	if set == nil {
		return fmt.Errorf("there is no namespace %q in %s", name, dataDir)
	}
	set.Password = nil
	if password != "" {
		set.Password = make(hashing, 1).newHash(password)
	}
	return saveRegistry(dataDir, all)
}

// WriteAdminFile writes the hash of an admin password, as a whole or not at all.
func WriteAdminFile(path, password string) error {
	hash, err := HashPassword(password)
	if err != nil {
		return err
	}
	return vfs.WriteFile(vfs.OS, path, []byte(hash+"\n"))
}
