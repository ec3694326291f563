package record

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/v1.json anew; only before format 1 is released")

// vectors are the sealed forms of fixed contents: what format 1 is, for ever.
func vectors(t *testing.T) map[string]string {
	t.Helper()
	s := newSealer(t, 1)
	out := map[string]string{}
	seal := func(what string, r Record) {
		name, sealed, err := s.Seal(r)
		if err != nil {
			t.Fatal(err)
		}
		out[what+" name"], out[what] = hex.EncodeToString(name[:]), hex.EncodeToString(sealed)
	}
	m := sampleManifest("zdbfs-data/17")
	body, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out["manifest body"] = hex.EncodeToString(body)
	seal("manifest", Record{Kind: KindManifest, Object: ManifestObject(m.Object, m.Generation), Version: Version{3, 99, 1}, Body: body})

	c := sampleCut(t)
	if body, err = s.EncodeCut(c); err != nil {
		t.Fatal(err)
	}
	out["cut body"] = hex.EncodeToString(body)
	seal("cut", Record{Kind: KindCut, Object: CutObject, Version: Version{2, 8, 2}, Body: body})

	if body, err = s.EncodeCut(heldCut(t)); err != nil {
		t.Fatal(err)
	}
	out["cut that holds a sealed segment body"] = hex.EncodeToString(body)
	seal("cut that holds a sealed segment", Record{Kind: KindCut, Object: CutObject, Version: Version{2, 9, 2}, Body: body})

	i := &Intent{Round: RoundID{1}, Writer: Writer{2, 3}, Time: time.Unix(4, 5), Entries: []IntentEntry{
		{Object: "a", Generation: Generation{1}, K: 4, N: 6, KeyEpoch: 1, MaxStripe: 9, Nodes: []Holding{{0, "n0", Offered}}},
	}}
	if body, err = i.Encode(); err != nil {
		t.Fatal(err)
	}
	out["intent body"] = hex.EncodeToString(body)
	seal("intent", Record{Kind: KindIntent, Object: i.Round.String(), Version: Version{2, 3, 3}, Body: body})

	body = (&Tombstone{Deleted: Version{1, 2, 3}, Writer: Writer{4, 5}, Time: time.Unix(6, 7)}).Encode()
	out["tombstone body"] = hex.EncodeToString(body)
	seal("tombstone", Record{Kind: KindManifest, Object: "o", Version: Version{4, 5, 6}, Tombstone: true, Body: body})

	b := &Base{Epoch: 1, Number: 2, Segments: []SegmentRef{{SegmentKey{"zdbfs-data", 1}, Generation{9}, 1000, 10}}}
	if body, err = b.Encode(); err != nil {
		t.Fatal(err)
	}
	out["base"] = hex.EncodeToString(body)

	fixed := func(what string, v []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out[what] = hex.EncodeToString(v)
	}
	v, err := s.SealOwner(Owner{Epoch: 7, ID: OwnerID{1, 2}, Time: time.Unix(5, 6), Host: "front"})
	fixed("epoch key", v, err)
	v, err = s.SealMark(Incarnation{9})
	fixed("complete mark", v, err)
	v, err = s.SealHead(CutHead{ID: CutID{3, 4, [32]byte{5}}, Time: time.Unix(9, 0)})
	fixed("cut head", v, err)
	out["cut head name"] = hex.EncodeToString(s.HeadName(1))
	return out
}

func TestVectors(t *testing.T) {
	const file = "testdata/v1.json"
	got := vectors(t)
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for what, w := range want {
		if got[what] != w {
			t.Errorf("%s is\n%s, want\n%s", what, got[what], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d vectors, want %d", len(got), len(want))
	}
	// And what was written then opens now.
	s := newSealer(t, 1)
	for _, what := range []string{"manifest", "cut", "cut that holds a sealed segment", "intent", "tombstone"} {
		raw, err := hex.DecodeString(want[what+" name"])
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := hex.DecodeString(want[what])
		if err != nil {
			t.Fatal(err)
		}
		name, err := ParseName(raw)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(name, sealed)
		if err != nil || hex.EncodeToString(r.Body) != want[what+" body"] {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}
