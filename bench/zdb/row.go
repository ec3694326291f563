package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A row is one line of the tables of targets, with what was measured for it.
type row struct {
	name  string // for --only
	title string
	unit  string
	// target says what must be reached; reached how much of it was, once ours and theirs are there: 1 and more is held.
	target  string
	reached func(r *row) float64
	ratio   func(r *row) float64 // ours to theirs, or to what it is compared with; nil: none

	ours, theirs []float64 // one for each round
	more         []string  // further figures, for the notes
	fault        error     // why it could not run
}

func (r *row) addOurs(v float64)   { r.ours = append(r.ours, v) }
func (r *row) addTheirs(v float64) { r.theirs = append(r.theirs, v) }

// note adds a further figure.
func (r *row) note(format string, args ...any) {
	if r != nil {
		r.more = append(r.more, fmt.Sprintf(format, args...))
	}
}

// median of some figures, 0 for none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func (r *row) our() float64   { return median(r.ours) }
func (r *row) their() float64 { return median(r.theirs) }

// verdict is "held", or "missed" with the reason if that is not the figure.
func (r *row) verdict() string {
	switch {
	case r.fault != nil:
		return "missed: " + r.fault.Error()
	case len(r.ours) == 0:
		return "missed: not measured"
	case r.reached(r) >= 1:
		return "held"
	}
	return fmt.Sprintf("**missed by %.0f %%**", math.Ceil(100*(1-r.reached(r))))
}

// nearly says of a row that missed whether it did so by no more than is allowed.
func (r *row) nearly() bool {
	return r.fault == nil && len(r.ours) > 0 && r.reached(r) >= 1-allowedShortfall
}

func (r *row) ok() bool { return r.verdict() == "held" }

// The usual targets.

// atLeast: ours reach a share of theirs.
func atLeast(share float64) func(*row) float64 {
	return func(r *row) float64 { return toTheirs(r) / share }
}

func above(limit float64) func(*row) float64 {
	return func(r *row) float64 { return r.our() / limit }
}

func below(limit float64) func(*row) float64 {
	return func(r *row) float64 { return limit / r.our() }
}

func toTheirs(r *row) float64 {
	if r.their() == 0 {
		return 0
	}
	return r.our() / r.their()
}

// line is the row as one line of text.
func (r *row) line() string {
	text := fmt.Sprintf("%-14s ours %s, theirs %s, ratio %s, target %s: %s",
		r.name, r.figure(r.ours), r.figure(r.theirs), r.share(), r.target, r.verdict())
	for _, m := range r.more {
		text += "; " + m
	}
	return text
}

// figure prints the median and, of several, the range.
func (r *row) figure(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	text := number(median(v))
	if len(v) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(v)), number(slices.Max(v)))
	}
	if strings.HasPrefix(r.unit, "/") {
		return text + r.unit
	}
	return text + " " + r.unit
}

func (r *row) share() string {
	if r.ratio == nil || len(r.ours) == 0 || r.ratio(r) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", r.ratio(r))
}

// number is short and keeps three digits.
func number(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0f k", v/1000)
	case v >= 10_000:
		return fmt.Sprintf("%.1f k", v/1000)
	case v >= 1000:
		return fmt.Sprintf("%.2f k", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
