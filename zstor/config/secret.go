package config

import "log/slog"

// Secret is a string that never prints: formatting, logging and JSON all show
// [secret]. Reveal is the only way to its value.
//
// The value stands behind a pointer: package fmt calls no methods on what it
// finds in an unexported field of another struct, and would print it from there.
type Secret struct{ value *string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value: &value} }

// Reveal returns the value, for the wire and for nothing else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s.Reveal() == "" }

const hidden = "[secret]"

// String implements fmt.Stringer.
func (s Secret) String() string { return hidden }

// GoString implements fmt.GoStringer, for %#v.
func (s Secret) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, so JSON and TOML show it hidden.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
