package zstor

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// nodesFile notes, in the directory for local state, as what each data node was last known, so that one that comes
// back empty is recognised across restarts. It may be lost: then nothing is known of any node.
const nodesFile = "nodes"

// notedNode is what is remembered of a data node.
type notedNode struct {
	Incarnation string `json:"incarnation"`
	Entries     int64  `json:"entries"`
	// Doubt: not all of what the node should hold was looked at since the note was made: it turned out to be another one.
	Doubt bool `json:"doubt,omitempty"`
	// Unknown: it is in doubt because nothing was known of it when it was seen first. Only of such a node the incarnation
	// says something all the same: with another one it was wiped since, whatever it held before.
	Unknown bool `json:"unknown,omitempty"`
}

// sameAs reports whether what a node says of itself is what was noted.
func (n notedNode) sameAs(info backend.Info) bool {
	return n.Incarnation == info.Incarnation && (info.Incarnation != "" || info.Entries >= n.Entries/2)
}

// everyFile stands for all files stored by name in a list of objects.
const everyFile = filePrefix + "*"

// theTails stands for the tails of the newest cut: they are not made again but shipped anew, in other generations.
const theTails = "tails"

// doubt is what has to be looked at before confirmations of a node count again.
type doubt struct {
	life        int64 // of the node, when the doubt arose; in a later life it is another doubt
	incarnation string
	// other: the node is known to be another one than it was, or to have lost something. Otherwise nothing is known of
	// it, as after a recovery on a new machine.
	other bool
	// sample: it began as a doubt about a node of which nothing was known, so one shard of each object is read back, not all.
	sample bool
	idle   bool                       // nothing but files, of which there may be none, was dispersed when it arose
	items  map[string]time.Time       // names of objects → when something was made again that is to be read back; zero: nothing was
	owed   int64                      // the round that ships the tails anew; see forceRound
	tails  map[record.Generation]bool // what they stood on when the doubt arose
	tries  int
	next   time.Time // no try before
}

// doubtBook knows which confirmations do not count: those of nodes that were wiped or replaced since they gave them.
// What is dispersed after a node has changed is not in doubt.
type doubtBook struct {
	saveMu sync.Mutex // one save at a time

	// mu guards what follows. It is taken before Store.mu.
	mu    sync.Mutex
	lives map[string]int64 // the life of each node that was last looked at
	nodes map[string]*doubt
	noted map[string]notedNode
	// changes counts those of noted, written how many of them the file has.
	changes, written int64
	saved            time.Time
	failed           bool // to write it, the last time
}

// note changes the line of a node. The caller holds mu, and saves afterwards.
func (b *doubtBook) note(node string, n notedNode) {
	b.noted[node] = n
	b.changes++
}

func (b *doubtBook) init(noted map[string]notedNode) {
	b.lives, b.nodes, b.noted = map[string]int64{}, map[string]*doubt{}, noted
}

// reset forgets what this process found out; the note decides anew.
func (b *doubtBook) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.lives)
	clear(b.nodes)
}

// replace takes up another note, of a state directory that has taken the place of the one before.
func (b *doubtBook) replace(noted map[string]notedNode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted, b.written = noted, b.changes
}

// looked reports whether the node was looked at in this life of it.
func (b *doubtBook) looked(node string, life int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lives[node] == life
}

// of tells whether an object is in doubt on a node, and whether that node is known to be another one.
func (b *doubtBook) of(node, object string) (doubted, other bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.nodes[node]
	if d == nil {
		return false, false
	}
	_, doubted = d.items[object]
	return doubted, doubted && d.other
}

// renewed gives, for each node that is known to be another one, how many objects are not looked at yet, and the names
// of all these objects.
func (b *doubtBook) renewed() (nodes map[string]int, objects map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	nodes, objects = map[string]int{}, map[string]bool{}
	for id, d := range b.nodes {
		if !d.other {
			continue
		}
		nodes[id] = len(d.items)
		for o := range d.items {
			objects[o] = true
		}
	}
	return nodes, objects
}

// unknown counts the objects on nodes of which nothing is known.
func (b *doubtBook) unknown() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.nodes {
		if !d.other && !d.idle {
			n = max(n, len(d.items))
		}
	}
	return n
}

// lookAtNodes notices nodes that are others than they were, and puts everything that is dispersed in doubt on them. When
// it returns, what this process goes by is on disk: no status and no consent is given that a later process, which finds
// a node wiped, would not know to be void.
func (s *Store) lookAtNodes() {
	if !s.working() {
		return
	}
	changed := false
	for _, id := range s.order {
		life, info := s.peers[id].Life()
		s.doubts.mu.Lock()
		seen := s.doubts.lives[id]
		s.doubts.mu.Unlock()
		if life == 0 || life == seen {
			continue
		}
		live := s.dispersed() // after the look at the life: what enters a cut later looks for itself
		b := &s.doubts
		b.mu.Lock()
		if b.lives[id] >= life { // somebody else was here meanwhile
			b.mu.Unlock()
			continue
		}
		b.lives[id] = life
		was, known := b.noted[id]
		same := seen == 0 && life == 1 && known && was.sameAs(info)
		if same && !was.Doubt {
			b.mu.Unlock()
			continue
		}
		unknown := life == 1 && !known || same && was.Unknown
		d := &doubt{life: life, incarnation: info.Incarnation, other: !unknown, sample: unknown, items: map[string]time.Time{}}
		for _, o := range live {
			d.items[o] = time.Time{}
		}
		b.nodes[id] = d
		if d.other || s.hasTails() {
			d.tails = s.weakenTails()
			d.owed = s.forceRound()
			d.items[theTails] = time.Time{}
		}
		d.idle = len(d.items) == 1
		b.note(id, notedNode{Incarnation: info.Incarnation, Entries: info.Entries, Doubt: true, Unknown: unknown})
		if d.other {
			s.log.Warn("a node is not what it was: what it held is looked for, and made again where it is missing", "node", id, "objects", len(live))
		}
		changed = true
		b.mu.Unlock()
	}
	s.saveNodesNote()
	if changed {
		kick(s.kickAudit)
	}
}

// dispersed names everything that the nodes should hold, except tails.
func (s *Store) dispersed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{everyFile}
	if s.ledger != nil {
		for _, ref := range s.ledger.Live() {
			out = append(out, segmentObject(ref.SegmentKey))
		}
	}
	if s.cut != nil && s.cut.Base != nil {
		out = append(out, s.cut.Base.Manifest.Object)
	}
	return out
}

// doubtObject puts one object in doubt on a node that is known to have lost some of it.
func (s *Store) doubtObject(node, object string) {
	p := s.peers[node]
	if p == nil {
		return
	}
	life, info := p.Life()
	b := &s.doubts
	b.mu.Lock()
	d := b.nodes[node]
	if d == nil {
		d = &doubt{life: life, incarnation: info.Incarnation, other: true, items: map[string]time.Time{}}
		b.nodes[node] = d
		b.note(node, notedNode{Incarnation: info.Incarnation, Doubt: true})
	}
	d.other = true
	_, had := d.items[object]
	if !had {
		d.items[object] = time.Time{}
	}
	d.next = time.Time{}
	b.mu.Unlock()
	if !had {
		s.saveNodesNote()
	}
	kick(s.kickAudit)
}

// lacks notes that a node of which nothing was known turned out to lack what it had confirmed.
func (s *Store) lacks(node string, d *doubt) {
	s.doubts.mu.Lock()
	defer s.doubts.mu.Unlock()
	if !d.other {
		d.other = true
		s.log.Warn("a node lacks what it confirmed: what it held is looked for, and made again where it is missing", "node", node, "objects", len(d.items))
	}
}

// doubtRenewed puts a finished generation in doubt on nodes that changed while it was sent.
func (s *Store) doubtRenewed(g *transfer.Generation) {
	if g == nil {
		return
	}
	for _, node := range g.Renewed() {
		s.doubtObject(node, g.Spec().Object)
	}
}

// trust ends a doubt: everything was looked at, and the node still is the one that it was then.
func (s *Store) trust(node string, d *doubt) {
	life, info := s.peers[node].Life()
	b := &s.doubts
	b.mu.Lock()
	if b.nodes[node] != d || len(d.items) > 0 || life != d.life {
		b.mu.Unlock()
		return
	}
	delete(b.nodes, node)
	b.note(node, notedNode{Incarnation: d.incarnation, Entries: info.Entries})
	other := d.other
	b.mu.Unlock()
	if other {
		s.log.Info("a node that was another one has what it should hold again", "node", node)
	}
	s.saveNodesNote()
}

// noteEntries keeps the counts of nodes without an incarnation up to date, now and then.
func (s *Store) noteEntries() {
	b := &s.doubts
	b.mu.Lock()
	due := time.Since(b.saved) > time.Minute
	for id, n := range b.noted {
		p := s.peers[id]
		if !due || p == nil || n.Doubt || n.Incarnation != "" || b.nodes[id] != nil {
			continue
		}
		if life, info := p.Life(); life == b.lives[id] && info.Entries != n.Entries {
			n.Entries = info.Entries
			b.note(id, n)
		}
	}
	b.mu.Unlock()
	s.saveNodesNote()
}

func (s *Store) nodesPath() string { return filepath.Join(s.state, localDir, nodesFile) }

func (s *Store) readNodesNote() map[string]notedNode {
	out := map[string]notedNode{}
	b, err := os.ReadFile(s.nodesPath())
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("what was noted of the nodes cannot be read: they are looked at anew", "error", err)
	}
	if err != nil || out == nil {
		return map[string]notedNode{}
	}
	return out
}

// saveNodesNote writes the note, if it has changed; changes that another one is writing are on disk when it returns. A
// failure is no error: an older note makes more doubts, not fewer, but for a doubt that is not on it yet. It is tried again.
func (s *Store) saveNodesNote() {
	b := &s.doubts
	b.saveMu.Lock()
	defer b.saveMu.Unlock()
	b.mu.Lock()
	noted, changes, again := maps.Clone(b.noted), b.changes, b.failed
	if b.written == changes {
		b.mu.Unlock()
		return
	}
	b.saved = time.Now()
	b.mu.Unlock()
	err := note.JSON(s.nodesPath(), noted)
	if err != nil {
		if !again {
			s.log.Warn("cannot note the nodes", "error", err)
		}
		_ = os.Remove(s.nodesPath()) // then nothing is known, which is looked into
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed = err != nil; err == nil {
		b.written = changes
	}
}

// inDoubt lists the doubts whose time has come, with the names of their objects in order.
func (s *Store) inDoubt() map[string]*doubt {
	b := &s.doubts
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]*doubt{}
	for id, d := range b.nodes {
		if !time.Now().Before(d.next) {
			out[id] = d
		}
	}
	return out
}

// open lists the objects of a doubt in order; nothing once another doubt has taken its place.
func (b *doubtBook) open(node string, d *doubt) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes[node] != d {
		return nil
	}
	return slices.Sorted(maps.Keys(d.items))
}
