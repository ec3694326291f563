package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// watch shows the status until Ctrl-C, and starts daemons again that have died, as systemd would.
func watch(p *harness.Program, c *harness.Cluster) {
	live := term.IsTerminal(int(os.Stdout.Fd()))
	every := 10 * time.Second
	if live {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	shown := 0
	for {
		revive(c.Front)
		lines := picture(c)
		if live && shown > 0 {
			fmt.Printf("\x1b[%dA\x1b[J", shown)
		}
		fmt.Println(strings.Join(lines, "\n"))
		shown = len(lines)
		select {
		case <-p.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// revive starts a daemon that has ended. Nodes stay down: losing some is what one may want to see.
func revive(f *harness.Front) {
	if !f.Zstor.Alive() {
		fmt.Printf("zstor has ended (exit code %d); starting it again\n", f.Zstor.ExitCode())
		f.UpZstor()
	}
	if !f.Zdbfs.Alive() {
		fmt.Printf("zdbfs has ended (exit code %d); mounting again\n", f.Zdbfs.ExitCode())
		f.Mount()
	}
}

// picture is the status in a few lines.
func picture(c *harness.Cluster) []string {
	// The mount knows of what zstor was not told yet, so it is asked.
	m, err := c.Front.TryMountStatus()
	if err != nil {
		return []string{"no status: " + err.Error()}
	}
	files, used := contents(c.Front.Mountpoint)
	lines := []string{
		fmt.Sprintf("%s  %s", time.Now().Format("15:04:05"), m.Answer),
		fmt.Sprintf("  files       %d, %s", files, size(used)),
		"  at risk     " + atRisk(m),
	}
	if s := m.Zstor; s != nil {
		lines = append(lines, "  dispersed   "+dispersed(s), "  nodes       "+health(s))
	}
	return lines
}

// dispersed says what the nodes hold: sealed segments as objects, the open ones as pieces that follow within seconds.
func dispersed(s *client.Status) string {
	text := fmt.Sprintf("%s in %d sealed segments", size(s.Objects.Bytes), s.Objects.Full+s.Objects.Degraded+s.Objects.Fallback)
	if weak := s.Objects.Degraded + s.Objects.Fallback; weak > 0 {
		text += fmt.Sprintf(" (%d with fewer shards than wanted)", weak)
	}
	return text + fmt.Sprintf(" and the open ones up to %s, %v ago", size(s.Cut.Data.Offset+s.Cut.Meta.Offset), s.Cut.Age.Round(time.Second))
}

// atRisk says what would be lost with this machine. Sealed segments wait at zstor although a cut covers what is in them.
func atRisk(m *harness.MountStatus) string {
	r, waiting, problem := m.AtRisk, 0, ""
	if m.Zstor != nil {
		waiting, problem = m.Zstor.Pending.Segments, m.Zstor.Pending.Problem
	}
	switch {
	case r.Unknown:
		return "unknown until it is mounted again"
	case r.Bytes == 0 && waiting == 0:
		return "nothing"
	}
	text := fmt.Sprintf("%s only on this machine", size(r.Bytes))
	if r.Age > 0 {
		text += fmt.Sprintf(", the oldest for %v", r.Age.Round(time.Second))
	}
	if waiting > 0 {
		text += fmt.Sprintf(", %d segments on their way", waiting)
	}
	if r.ETA > 0 {
		text += fmt.Sprintf(", gone in about %v", r.ETA.Round(time.Second))
	}
	if problem != "" {
		text += " (" + problem + ")"
	}
	return text
}

// health names each group with its nodes, up or down.
func health(s *client.Status) string {
	var parts []string
	for _, g := range s.Groups {
		parts = append(parts, fmt.Sprintf("%s %d/%d up", g.Name, g.Up, g.All))
	}
	return strings.Join(parts, "   ") + fmt.Sprintf("   %d more may be lost", s.SurvivableNodes)
}

// contents asks the mount how much is in it.
func contents(mount string) (files uint64, used int64) {
	var st unix.Statfs_t
	if unix.Statfs(mount, &st) != nil {
		return 0, 0
	}
	return st.Files - st.Ffree, int64(st.Blocks-st.Bfree) * int64(st.Bsize)
}

func size(n int64) string {
	switch {
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
