package server

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"qsfs/zdb"
)

const (
	// maxKeepLast and maxKeepDeleted are beyond what anybody means.
	maxKeepLast    = 1_000_000
	maxKeepDeleted = 100 * 365 * day

	day = 24 * time.Hour
)

// ParseAge reads a time such as 30d, 2w or 12h30m; 0 is none.
func ParseAge(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time such as 30d, 12h or 0", text)
	if text == "0" {
		return 0, nil
	}
	unit := time.Duration(0)
	switch {
	case text == "":
		return 0, bad
	case text[len(text)-1] == 'd':
		unit = day
	case text[len(text)-1] == 'w':
		unit = 7 * day
	}
	var d time.Duration
	if unit > 0 {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
		if err != nil || n > uint64(maxKeepDeleted/unit) {
			return 0, bad
		}
		d = time.Duration(n) * unit
	} else {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			return 0, bad
		}
	}
	if d < 0 || d > maxKeepDeleted {
		return 0, fmt.Errorf("%q is below 0 or above 100 years", text)
	}
	return d, nil
}

// FormatAge writes a time as ParseAge reads it.
func FormatAge(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	if d == 0 {
		return "0"
	}
	return d.String()
}

// setKeep turns NSSET keep_last and keep_deleted into a change of the settings, or answers why not.
//
// What keep_deleted promises has to hold against whoever has the passwords of the namespaces and no more, as a stolen
// front machine does. So only an admin may shorten it, and it cannot be set where everybody is admin.
func (s *session) setKeep(property, value string) func(*settings) {
	if property == "keep_last" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxKeepLast {
			s.fail(errKeepLast)
			return nil
		}
		return func(set *settings) { set.KeepLast = n }
	}
	d, err := ParseAge(value)
	if err != nil {
		s.fail(errKeepDeleted)
		return nil
	}
	if d > 0 && s.srv.rights.Load().open() {
		s.fail(errKeepNeedsAdmin)
		return nil
	}
	return func(set *settings) { set.KeepDeleted = keepTime(d) }
}

// ErrKeepNeedsAdmin is wrapped by the error of Open when namespaces of the list have keep_deleted and the server would have no
// admin password.
var ErrKeepNeedsAdmin = errors.New("keep_deleted needs an admin password")

// mayKeep refuses to serve what promises to keep what is deleted where everybody is admin. Most likely the password was
// forgotten, or its file is lost; any other one will do, so a refusal locks nobody out, but to serve would let the first
// client that comes end the promise for good.
func (s *Server) mayKeep(all map[string]*settings) error {
	if !s.rights.Load().open() {
		return nil
	}
	var names []string
	for name, set := range all {
		over := false
		if set.isRemoved() {
			passed, ok := s.db.Passed(set.RemovedAt)
			over = ok && passed > set.keepFor()
		}
		if set.KeepDeleted > 0 && !set.Removing && !over {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	const most = 5
	text, more := strings.Join(names[:min(len(names), most)], ", "), ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
	}
	return fmt.Errorf("%w: %s%s keep what is deleted, and without a password every client is admin and could end that; start with a password, the old one or another, "+
		"and if nothing is to be kept any more, set keep_deleted to 0 first (KEPT DROP for what was removed)", ErrKeepNeedsAdmin, text, more)
}

// A keepTime stands in the list of namespaces as text.
type keepTime time.Duration

// MarshalText writes the time as NSSET takes it.
func (k keepTime) MarshalText() ([]byte, error) { return []byte(FormatAge(time.Duration(k))), nil }

// UnmarshalText reads it back.
func (k *keepTime) UnmarshalText(text []byte) error {
	d, err := ParseAge(string(text))
	*k = keepTime(d)
	return err
}

// validate refuses settings that were tampered with.
func (set *settings) validate() error {
	if set.KeepLast < 0 || set.KeepLast > maxKeepLast {
		return errors.New("keep_last is impossible")
	}
	if set.Store != "" {
		if _, err := zdb.DirName(set.Store); err != nil {
			return errors.New("the store has no possible name")
		}
	}
	if set.Password != nil {
		return set.Password.validate()
	}
	return nil
}

// retention is what the engine is to keep.
func (set *settings) retention() *zdb.Retention {
	return &zdb.Retention{KeepLast: max(set.KeepLast, 1), KeepFor: time.Duration(set.KeepDeleted)}
}
