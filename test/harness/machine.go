package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// CheckMachine says what is missing for end-to-end tests: they fail with the reason, they do not skip.
func CheckMachine() error {
	var missing []error
	if os.Geteuid() != 0 {
		missing = append(missing, errors.New("they mount filesystems: run them as root"))
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing = append(missing, fmt.Errorf("no FUSE in this kernel: %w", err))
	}
	for _, tool := range []string{"fusermount3", "mount", "mkfs.xfs", "mkfs.ext4", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, fmt.Errorf("%w (sh test/tools.sh installs it)", err))
		}
	}
	return errors.Join(missing...)
}
