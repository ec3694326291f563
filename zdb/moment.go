package zdb

import (
	"encoding/hex"
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

// Passed says how much time has passed since a moment, at least. Time that this database was open counts at once; other time, by
// which only the wall clock is ahead, when it was ahead for as long, at most a day, while the database was open. wall is the
// same moment by the wall clock: it is used where the text is none of this database, but not in the first day that the database's clock runs.
func (db *DB) Passed(moment string, wall time.Time) time.Duration {
	db.clock.Use()
	id, v := db.clock.ID(), db.clock.Look()
	var run clock.Run
	text := hex.EncodeToString(id[:]) + ":"
	if len(moment) > len(text) && moment[:len(text)] == text {
		if n, err := fmt.Sscan(moment[len(text):], &run); n == 1 && err == nil {
			db.clock.Reached(run)
			return v.Now() - v.Time(run)
		}
	}
	return v.Since(wall)
}
