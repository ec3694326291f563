package test

import (
	"testing"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// TestStatusWithoutMount: after a kill zstor, which was told nothing of the newest writes, sees everything dispersed; status
// knows that it does not know. After a stop that dispersed everything it says so again.
func TestStatusWithoutMount(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{"sync_interval": `"60s"`}})
	f := c.Front
	f.Ship(shipLimit)
	content := make([]byte, 1<<20)
	fillRandom(content, 77)
	writeSynced(t, f.Path("a"), content)
	f.Zdbfs.Kill9()
	s := f.MountStatus()
	if s.Mount.Running || s.Zstor == nil || s.Zstor.Safety != client.Safe {
		t.Fatalf("not the case that is meant: %+v", s)
	}
	if s.Safe || !s.AtRisk.Unknown || s.Word != string(client.Offline) {
		t.Errorf("after a kill: %s (safe %v, %q)", s.Answer, s.Safe, s.Word)
	}

	f.Mount()
	f.Unmount()
	s = f.MountStatus()
	if !s.Safe || s.AtRisk.Unknown {
		t.Errorf("after a stop: %s", s.Answer)
	}
	if n := s.Zstor.Cut.Data.Offset; n < int64(len(content)) {
		t.Errorf("the newest cut ends at %d of a log of more than %d bytes", n, len(content))
	}

	f.Zstor.Stop(shipLimit)
	f.StartMount()
	f.WaitMount()
	writeSynced(t, f.Path("b"), content)
	f.Unmount() // it cannot wait for zstor for ever
	f.UpZstor()
	f.WaitZstor()
	if s = f.MountStatus(); s.Safe || !s.AtRisk.Unknown {
		t.Errorf("after a stop without zstor: %s", s.Answer)
	}
}
