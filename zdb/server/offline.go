package server

import (
	"errors"
	"fmt"
	"path/filepath"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// SetPassword changes the password of a namespace in the data directory of a server that does not run; an empty one
// removes it. A server that runs has the directory locked: zdb.ErrLocked.
func SetPassword(dataDir, name, password string) (err error) {
	if len(password) > maxPropertyValue {
		return fmt.Errorf("a password of a namespace has at most %d bytes", maxPropertyValue)
	}
	if name == defaultNamespace {
		return errors.New("the default namespace takes no password of its own, see zdb serve --protect")
	}
	all, found, err := loadRegistry(dataDir)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s holds no %s: it is not the data directory of a server", dataDir, registryName)
	}
	lock, err := vfs.OS.Lock(filepath.Join(dataDir, ".lock"))
	if err != nil {
		return fmt.Errorf("%w: %w", zdb.ErrLocked, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if all, _, err = loadRegistry(dataDir); err != nil { // nobody changes it any more
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
	return replaceFile(path, []byte(hash+"\n"))
}
