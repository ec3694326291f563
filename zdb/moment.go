package zdb

import (
	"fmt"
	"time"

	"qsfs/zdb/internal/clock"
)

// Moment is the present moment in a form for Passed, which may be stored.
func (db *DB) Moment() string {
	db.clock.Use()
	id, v := db.clock.ID(), db.clock.Look()
	return fmt.Sprintf("%x:%d", id, v.Run)
}

// Passed says how much time has passed since a moment, at least. Time that this database was open counts at once; other time
// when the wall clock has been ahead by it for a day in which the database was open, and no more of it than has been open since. ok says that the moment is one
// of this database's past; after files of it were lost or put back from another day it may not be, and only a new moment helps.
func (db *DB) Passed(moment string) (d time.Duration, ok bool) {
	db.clock.Use()
	var id []byte
	var run clock.Run
	if n, err := fmt.Sscanf(moment, "%32x:%d", &id, &run); n != 2 || err != nil || len(id) != len(clock.ID{}) {
		return 0, false
	}
	if end, known := db.clock.End(clock.ID(id)); !known || run < 0 || run > end {
		return 0, false
	}
	v := db.clock.Look()
	return v.Age(run), true
}
