package quorum

// A rule is one sentence of the protocols that this package could break. Tests leave out one at a time, through an
// unexported field of a Set, and must then find the loss that the rule prevents. In production none is left out.
type rule int

const (
	noRule rule = iota

	// Records and quorums (protocols 8).
	ruleQuorumsOverlap     // W + R > m, checked at load
	ruleGroupMayFail       // m − m_g ≥ max(W, R) for each tolerated loss of groups, checked at load
	ruleReadQuorum         // a read needs R counted answers
	ruleWriteQuorum        // an acknowledgement needs W counted answers
	ruleCompleteMark       // a node counts only while it shows the complete mark
	ruleMarkIncarnation    // the mark must name the present incarnation
	ruleMarkNotByClaim     // a claim never writes the mark
	ruleMarkLast           // a rebuild writes the mark last
	ruleEpochThenMark      // a rebuild raises the epoch key before it writes the mark
	ruleRebuildByOwner     // the sources of a rebuild each show the rebuilder's own id
	ruleRebuildReadsQuorum // a rebuild reads R others
	ruleRebuildForgets     // a rebuild forgets what was counted on the node
	ruleWriteBack          // what a reader returns is on W nodes
	ruleBadAnswer          // an answer with a damaged record does not count
	ruleTombstoneStays     // a tombstone stays until all nodes have it
	ruleCountersReserved   // counters of versions are reserved durably before use

	// Recovery (protocols 10).
	ruleClaimFirst       // the claim comes before the read
	ruleRepublish        // the first act is to publish the cut again as (e+1, 0)
	ruleFencedReadsAnew  // a recovery that was fenced meanwhile claims and reads anew
	ruleTakeOverCompares // an old machine goes on only with its own last cut
	ruleTakeOverRereads  // and compares after its claim, not before

	// Fencing (protocols 11).
	ruleOnlyRises     // the epoch key is replaced by compare-and-set, never by a plain write
	ruleRandomID      // the id in the epoch key is random
	ruleTryHigher     // a lost claim is tried again one epoch higher
	ruleClaimQuorum   // an owner reads its own id from max(W, R) nodes
	ruleReadShowsOwn  // an owner's read counts only nodes that show its id in the same answer
	ruleWriteShowsOwn // an acknowledgement counts only nodes that show its id
	ruleStateAfterPut // the id is asked for after the record was sent

	ruleCount
)

// keeps reports whether a rule is in force.
func (s *Set) keeps(r rule) bool { return s.without != r }
