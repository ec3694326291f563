package zdb

import (
	"path/filepath"
	"time"

	"qsfs/zdb/internal/clock"
)

// agesName is the file that says when what is in the log was written, by the clock that counts the time that passes.
const agesName = "ages"

func (n *Namespace) agesPath() string { return filepath.Join(n.dataDir, agesName) }

func (n *Namespace) openAges() {
	n.ages = n.db.clock.OpenMarks(n.agesPath(), n.log.Head().Seq, n.log.WriterOf)
}

// age is how old what is in the log is now; what comes counts from now on.
func (n *Namespace) age(keepFor time.Duration) clock.Ages {
	return n.ages.Note(keepFor, func() Seq { return n.log.Durable().Seq }, n.log.WriterOf)
}
