package bazil

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// tuneBDI sets what the kernel may read ahead and how many dirty bytes it may hold for this mount.
// A file that is not there (an older kernel, another mount namespace) is a setting that is not
// made: the errors are for the log.
func tuneBDI(device string, o Options) []error {
	dir := filepath.Join("/sys/class/bdi", device)
	var errs []error
	set := func(name, value string) {
		// No O_CREATE: what the kernel does not offer must not be made.
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(value)
			if e := f.Close(); err == nil {
				err = e
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set %s of the mount: %w", name, err))
		}
	}
	set("read_ahead_kb", strconv.FormatInt(o.ReadAhead>>10, 10))
	set("max_bytes", strconv.FormatInt(o.MaxDirty, 10))
	return errs
}
