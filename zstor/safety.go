package zstor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"qsfs/zstor/client"
)

// judgeSafety puts the verdict in front: one word, one sentence, what to do.
func judgeSafety(st *client.Status) {
	down := downNodes(st)
	renewed := renewedNodes(st)
	volatile, volatileAdvice := volatileNodes(st)
	defer func() { st.Advice = append(st.Advice, volatileAdvice...) }()
	late := max(4*st.Policy.SyncInterval, 30*time.Second)
	switch {
	case st.Verdict == client.Fenced:
		st.Safety, st.Headline = client.Stopped, "Another machine has taken over this filesystem; nothing written here leaves this machine any more."
		st.Advice = []string{"If that was meant: stop the mount, move the state directory aside, and use zdbfs salvage for what is only here.", "If not: stop the other machine, then mount with --take-over."}
	case st.Verdict == client.Stale:
		st.Safety, st.Headline = client.Stopped, "The local state is not the newest one; nothing written here leaves this machine. "+st.Reason
		st.Advice = []string{"Move the state directory aside, run zdbfs recover, then zdbfs salvage for what is only in the old one."}
	case st.Owner.Recovering:
		st.Safety, st.Headline = client.Offline, "A recovery is not complete."
		st.Advice = []string{"Run zdbfs recover again; it goes on where it stopped."}
	case !st.Formatted:
		st.Safety, st.Headline = client.Offline, "This machine owns no filesystem."
		st.Advice = []string{"For a new filesystem: zstor format. To bring one back: zdbfs recover."}
	case !st.Attached && st.Read.Needed == 0:
		st.Safety, st.Headline = client.Offline, "No filesystem is mounted; what is dispersed stays as it is."
	case st.Read.Needed > 0:
		judgeReads(st)
	case st.Verdict == client.Unverified:
		st.Safety, st.Headline = client.Offline, "Not verified: too few metadata nodes answer, so nothing is shipped. "+st.Reason
		st.Advice = nodeAdvice(down)
	case st.Objects.Lost > 0:
		st.Safety = client.AtRisk
		st.Headline = fmt.Sprintf("%s cannot be read from the nodes", count(st.Objects.Lost, "segment"))
		if st.Objects.Gone > 0 {
			st.Headline += fmt.Sprintf(", and %d of them are not on this machine either.", st.Objects.Gone)
		} else {
			st.Headline += "; the copy on this machine is the only one until it is stored anew."
		}
		st.Advice = append(nodeAdvice(down), renewed...)
	case st.Pending.Problem != "" && (st.Pending.Bytes > 0 || st.Pending.Age > 0), st.Pending.Age > late:
		st.Safety = client.AtRisk
		st.Headline = fmt.Sprintf("%s are only on this machine, the oldest for %s.", size(st.Pending.Bytes), round(st.Pending.Age))
		if st.Pending.Problem != "" {
			st.Headline += " " + st.Pending.Problem
		}
		st.Advice = nodeAdvice(down)
	case len(down) > 0 || len(renewed) > 0 || volatile > 0 || st.Objects.Degraded > 0 || st.Objects.Fallback > 0:
		st.Safety = client.Degraded
		st.Headline = fmt.Sprintf("All data survives the loss of %s more; the policy promises more than that.", losses(st))
		st.Advice = append(nodeAdvice(down), renewed...)
	case st.Objects.Unknown > 0:
		st.Safety = client.Degraded
		st.Headline = fmt.Sprintf("It is being looked at whether the nodes still hold what they confirmed: %s to go.", count(st.Objects.Unknown, "object"))
	case st.Pending.Bytes > 0:
		st.Safety = client.Shipping
		st.Headline = fmt.Sprintf("Safe up to %s ago; %s are on their way.", round(st.Pending.Age), size(st.Pending.Bytes))
	default:
		st.Safety = client.Safe
		st.Headline = fmt.Sprintf("Everything is dispersed, and survives the loss of %s.", losses(st))
	}
}

// judgeReads says that what is dispersed cannot be read, and what else is wrong behind it.
func judgeReads(st *client.Status) {
	r := st.Read
	st.Safety = client.AtRisk
	st.Headline = fmt.Sprintf("Dispersed data cannot be read: %d of the %d nodes that reading needs answer.", r.Answer, r.Needed)
	switch {
	case !st.Attached:
		st.Headline += " No filesystem is mounted."
	case st.Verdict == client.Unverified:
		st.Headline += " Not verified, so nothing is shipped. " + st.Reason
	case st.Pending.Bytes > 0:
		st.Headline += fmt.Sprintf(" %s are only on this machine, the oldest for %s.", size(st.Pending.Bytes), round(st.Pending.Age))
	}
	if n := r.Needed - r.Answer; n >= len(r.Missing) {
		st.Advice = []string{"Bring back: " + strings.Join(r.Missing, ", ") + "."}
	} else {
		st.Advice = []string{fmt.Sprintf("Bring back at least %d of: %s.", n, strings.Join(r.Missing, ", "))}
	}
	if down := slices.DeleteFunc(downNodes(st), func(id string) bool { return slices.Contains(r.Missing, id) }); len(down) > 0 {
		st.Advice = append(st.Advice, "Down as well: "+strings.Join(down, ", ")+".")
	}
}

func downNodes(st *client.Status) []string {
	var out []string
	for _, n := range st.Nodes {
		if !n.Up || n.Role == "metadata" && !n.Counts && st.Formatted && !n.NoSync {
			out = append(out, n.ID)
		}
	}
	return out
}

// volatileNodes says which nodes do not sync, and what that means.
func volatileNodes(st *client.Status) (records int, advice []string) {
	for _, n := range st.Nodes {
		switch {
		case n.NoSync && n.Role == "metadata":
			records++
			advice = append(advice, n.ID+" acknowledges writes before they are on its disk (sync=none): it holds no records, and does not count. Start it with --sync=always.")
		case n.NoSync:
			advice = append(advice, n.ID+" acknowledges writes before they are on its disk (sync=none): what is stored there counts only after it was read back later. Start it with --sync=always.")
		}
	}
	return records, advice
}

// renewedNodes says which nodes lack what they once confirmed, and that it is being made again.
func renewedNodes(st *client.Status) []string {
	var out []string
	for _, n := range st.Nodes {
		if n.Renewed {
			out = append(out, fmt.Sprintf("%s was wiped or replaced, or has lost something: %s of it to go until all is there again; nothing to do.", n.ID, count(n.Unchecked, "object")))
		}
	}
	return out
}

func nodeAdvice(down []string) []string {
	if len(down) == 0 {
		return nil
	}
	return []string{"Bring back: " + strings.Join(down, ", ") + "."}
}

func losses(st *client.Status) string {
	return fmt.Sprintf("any %s or %s", count(st.SurvivableNodes, "node"), count(st.SurvivableGroups, "whole group"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[u])
}
