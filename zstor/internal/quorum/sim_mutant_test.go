package quorum

import "testing"

// ruleNames are for people.
var ruleNames = [ruleCount]string{
	ruleQuorumsOverlap:     "W + R > m",
	ruleGroupMayFail:       "m − m_g ≥ max(W, R)",
	ruleReadQuorum:         "a read needs R answers",
	ruleWriteQuorum:        "an acknowledgement needs W answers",
	ruleCompleteMark:       "a node counts only with its complete mark",
	ruleMarkIncarnation:    "the mark names the incarnation",
	ruleMarkNotByClaim:     "a claim never writes the mark",
	ruleMarkLast:           "a rebuild writes the mark last",
	ruleEpochThenMark:      "a rebuild raises the epoch key, then writes the mark",
	ruleRebuildByOwner:     "only the owner rebuilds",
	ruleRebuildReadsQuorum: "a rebuild reads R others",
	ruleRebuildForgets:     "a rebuild forgets what was counted",
	ruleWriteBack:          "a reader writes back",
	ruleBadAnswer:          "a damaged record is a bad answer",
	ruleTombstoneStays:     "a tombstone stays until all have it",
	ruleCountersReserved:   "counters are reserved durably",
	ruleClaimFirst:         "claim, then read",
	ruleRepublish:          "the first act publishes the cut again",
	ruleFencedReadsAnew:    "a fenced recovery reads anew",
	ruleTakeOverCompares:   "a takeover compares the newest cut",
	ruleTakeOverRereads:    "a takeover compares after its claim",
	ruleOnlyRises:          "the epoch key only rises",
	ruleRandomID:           "the id is random",
	ruleTryHigher:          "a lost claim tries one higher",
	ruleClaimQuorum:        "an owner reads its id from max(W, R) nodes",
	ruleReadShowsOwn:       "a read counts only nodes that show the id",
	ruleWriteShowsOwn:      "a write counts only nodes that show the id",
	ruleStateAfterPut:      "the id is asked for after the record was sent",
}

// ruleSeeds are schedules that are known to find the loss; they only save time. When the code has changed and they do
// not any more, the test searches.
var ruleSeeds = [ruleCount]uint64{
	ruleReadQuorum:         146,
	ruleCompleteMark:       198,
	ruleMarkIncarnation:    2628,
	ruleMarkNotByClaim:     24,
	ruleMarkLast:           171,
	ruleRebuildByOwner:     4343,
	ruleRebuildReadsQuorum: 198,
	ruleRebuildForgets:     1620,
	ruleWriteBack:          565,
	ruleBadAnswer:          99,
	ruleTombstoneStays:     3667,
	ruleClaimFirst:         22,
	ruleRepublish:          144,
	ruleFencedReadsAnew:    1593,
	ruleTakeOverCompares:   35,
	ruleTakeOverRereads:    518,
	ruleOnlyRises:          35,
	ruleClaimQuorum:        1748,
	ruleReadShowsOwn:       1704,
	ruleStateAfterPut:      636,
}

// TestEachRuleIsNeeded leaves out one rule at a time: the same simulation must find the loss.
func TestEachRuleIsNeeded(t *testing.T) {
	sealer := testSealer(t)
	const most = 20_000
	for r := noRule + 1; r < ruleCount; r++ {
		t.Run(ruleNames[r], func(t *testing.T) {
			t.Parallel()
			if r == ruleEpochThenMark { // a schedule of its own; 100,000 random ones found nothing
				if acked, found := keyThenMark(t, r); !acked || found {
					t.Errorf("without %q: acknowledged %v, found %v", ruleNames[r], acked, found)
				}
				return
			}
			for n := range uint64(most) {
				seed := n
				if n == 0 && !long() {
					seed = ruleSeeds[r]
				}
				fault, _ := simulate(t, seed, r, sealer, false)
				if fault == "" {
					continue
				}
				t.Logf("rule %d, schedule %d: %s", r, seed, fault)
				if fault, _ := simulate(t, seed, noRule, sealer, false); fault != "" {
					t.Errorf("schedule %d with all rules: %s", seed, fault)
				}
				return
			}
			t.Errorf("%d schedules without %q found nothing", most, ruleNames[r])
		})
	}
}
