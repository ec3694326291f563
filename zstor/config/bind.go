package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// binder collects the faults met while values are taken out of the tree.
type binder struct {
	file  string
	lines positions
	errs  Errors
}

func (b *binder) fault(path, format string, args ...any) {
	b.errs = append(b.errs, Fault{File: b.file, Line: b.lines.line(path), Key: path, Msg: fmt.Sprintf(format, args...)})
}

// table is one TOML table being read; what nobody asked for is unknown.
type table struct {
	b     *binder
	path  string
	value map[string]any
	asked []string
}

func (t *table) key(k string) string { return join(t.path, k) }

// take returns the raw value of a key and marks the key as known.
func (t *table) take(k string) (any, bool) {
	t.asked = append(t.asked, k)
	v, ok := t.value[k]
	return v, ok
}

// has reports whether a key stands in the file.
func (t *table) has(k string) bool {
	_, ok := t.value[k]
	return ok
}

func (t *table) wrong(k, want string, got any) {
	// The value itself is not shown: it may be a password in the wrong place.
	t.b.fault(t.key(k), "must be %s, not %s", want, kindOf(got))
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	}
	return "a date or time"
}

func (t *table) str(k string, dst *string) {
	if v, ok := t.take(k); ok {
		if s, ok := v.(string); ok {
			*dst = s
		} else {
			t.wrong(k, "a string", v)
		}
	}
}

func (t *table) secret(k string, dst *Secret) {
	var s string
	t.str(k, &s)
	if s != "" {
		*dst = NewSecret(s)
	}
}

func (t *table) integer(k string, dst *int) {
	if v, ok := t.take(k); ok {
		if i, ok := v.(int64); !ok {
			t.wrong(k, "a whole number", v)
		} else if i < 0 || i > 1<<31-1 {
			t.b.fault(t.key(k), "%d is out of range", i)
		} else {
			*dst = int(i)
		}
	}
}

func (t *table) size(k string, dst *Size) {
	v, ok := t.take(k)
	if !ok {
		return
	}
	switch v := v.(type) {
	case int64:
		if v < 0 {
			t.b.fault(t.key(k), "%d is out of range", v)
			return
		}
		*dst = Size(v)
	case string:
		s, err := ParseSize(v)
		if err != nil {
			t.b.fault(t.key(k), "%v", err)
			return
		}
		*dst = s
	default:
		t.wrong(k, "a size like \"64MiB\"", v)
	}
}

func (t *table) duration(k string, dst *time.Duration) {
	v, ok := t.take(k)
	if !ok {
		return
	}
	s, isString := v.(string)
	if !isString {
		t.wrong(k, "a duration like \"5s\"", v)
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		t.b.fault(t.key(k), "%q is not a duration (write it like \"5s\" or \"10m\")", s)
		return
	}
	*dst = d
}

func (t *table) boolean(k string, dst *bool) {
	if v, ok := t.take(k); ok {
		if x, ok := v.(bool); ok {
			*dst = x
		} else {
			t.wrong(k, "true or false", v)
		}
	}
}

// yesNo reads "yes" and "no", and true and false for those who forget.
func (t *table) yesNo(k string, dst *bool) {
	v, ok := t.take(k)
	if !ok {
		return
	}
	switch v {
	case "yes", true:
		*dst = true
	case "no", false:
		*dst = false
	default:
		t.b.fault(t.key(k), "must be \"yes\" or \"no\"")
	}
}

func (t *table) choice(k string, dst *string, options ...string) {
	var s string
	before := len(t.b.errs)
	t.str(k, &s)
	if len(t.b.errs) > before || !t.has(k) {
		return
	}
	if !slices.Contains(options, s) {
		t.b.fault(t.key(k), "%q is not one of %s", s, strings.Join(options, ", "))
		return
	}
	*dst = s
}

// table returns the table under a key, or nil.
func (t *table) table(k string) *table {
	v, ok := t.take(k)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.wrong(k, "a table", v)
		return nil
	}
	return &table{b: t.b, path: t.key(k), value: m}
}

// tables returns the elements of an array of tables.
func (t *table) tables(k string) []*table {
	v, ok := t.take(k)
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.b.fault(t.key(k), "must be written as [[%s]]", t.key(k))
		return nil
	}
	var out []*table
	for i, e := range list {
		p := index(t.key(k), i)
		m, ok := e.(map[string]any)
		if !ok {
			t.b.fault(p, "must be a table, not %s", kindOf(e))
			continue
		}
		out = append(out, &table{b: t.b, path: p, value: m})
	}
	return out
}

// retired marks a key of the older format that has no meaning any more.
func (t *table) retired(k, advice string) {
	if _, ok := t.take(k); ok {
		t.b.fault(t.key(k), "%s", advice)
	}
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	var unknown []string
	for k := range t.value {
		if !slices.Contains(t.asked, k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		hint := ""
		if near := nearest(k, t.asked); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		t.b.fault(t.key(k), "unknown key%s", hint)
	}
}

// nearest finds a known key that is at most two edits away.
func nearest(k string, known []string) string {
	best, bestDist := "", 3
	for _, c := range known {
		if d := editDistance(k, c); d < bestDist && d < len(k) {
			best, bestDist = c, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diag+cost)
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
