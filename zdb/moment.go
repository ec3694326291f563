package zdb

import (
	"fmt"
	"time"

	"qsfs/zdb/internal/clock"
)

// Moment is the present moment in a form for Passed, which may be stored.
func (db *DB) Moment() string {
	db.clock.Use()
	return momentOf(db.clock.ID(), db.clock.Look().Run)
}

func momentOf(id clock.ID, run clock.Run) string { return fmt.Sprintf("%x:%d", id, run) }

// Passed says how much time has passed since a moment, at least. Time that this database was open counts at once; other time
// when the wall clock has been ahead by it for a day in which the database was open, and no more of it than has been open since. ok says that the moment is one
// of this database's past; after files of it were lost or put back from another day it may not be, and only a new moment helps.
func (db *DB) Passed(moment string) (d time.Duration, ok bool) {
	run, ok := db.runOf(moment)
	if !ok {
		return 0, false
	}
	v := db.clock.Look()
	return v.Age(run), true
}

// Renewed is the same moment, as one of the present opening: of very many openings only the newest are known for sure. It is what it was where it is of no use, or
// where a crash could make it so.
func (db *DB) Renewed(moment string) string {
	run, ok := db.runOf(moment)
	if !ok || !db.clock.Lasts() {
		return moment
	}
	return momentOf(db.clock.ID(), run)
}

func (db *DB) runOf(moment string) (run clock.Run, ok bool) {
	db.clock.Use()
	var id []byte
	if n, err := fmt.Sscanf(moment, "%32x:%d", &id, &run); n != 2 || err != nil || len(id) != len(clock.ID{}) {
		return 0, false
	}
	end, known := db.clock.End(clock.ID(id))
	return run, known && run >= 0 && run <= end
}
