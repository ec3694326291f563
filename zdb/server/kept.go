package server

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"qsfs/zdb"
)

// keptVersions is how many versions KEPT VERSIONS lists at most.
const keptVersions = 1000

// cmdKept is what the admin sees of the past of a namespace, whichever is selected and whatever its password:
//
//	KEPT KEYS ns [prefix] [cursor] [count]  → [next cursor or nil, [[key, deleted at, written at, length]…]]
//	KEPT VERSIONS ns key [before]           → [[sequence, time, deleted 0/1, length]…], newest first
//	KEPT GET ns key sequence                → the value of that version
//	KEPT LIST                               → [[name, removed at, kept until, bytes]…], what was emptied or removed
//	KEPT DROP name                          → OK: one of those goes at once
//
// KEYS lists keys that are deleted and of which a value is kept, in their order. Times are Unix milliseconds. Keys of a
// sequential namespace are its ids.
func cmdKept(s *session, args [][]byte) {
	sub := strings.ToUpper(string(args[1]))
	if sub == "LIST" {
		s.keptList()
		return
	}
	if len(args) < 3 {
		s.fail(errArity)
		return
	}
	n := s.srv.kept(string(args[2]))
	if n == nil {
		s.fail(errNoNamespace)
		return
	}
	var run func(n *namespace, eng *zdb.Namespace, args [][]byte) error
	switch sub {
	case "KEYS":
		run = s.keptKeys
	case "VERSIONS":
		run = s.keptVersions
	case "GET":
		run = s.keptGet
	case "DROP":
		s.keptDrop(n)
		return
	default:
		s.fail(errKept)
		return
	}
	eng, err := n.acquire(s.srv.ctx)
	if err == nil {
		err = run(n, eng, args[3:])
		n.release()
	}
	switch {
	case errors.Is(err, errNamespaceRemoved):
		s.fail(errNoNamespace)
	case err != nil:
		s.srv.trouble("read what is kept", n.name, err)
		s.fail(errInternal)
	}
}

// keptList answers what was set aside.
func (s *session) keptList() {
	list := slices.DeleteFunc(s.srv.allRemoved(), func(n *namespace) bool { return n.set.Load().Removing })
	s.array(len(list))
	for _, n := range list {
		set := n.set.Load()
		s.array(4)
		s.text(n.name)
		s.integer(set.Removed.UnixMilli())
		s.integer(set.until().UnixMilli())
		s.integer(n.diskBytes())
	}
}

func (s *session) keptDrop(n *namespace) {
	if !n.set.Load().isRemoved() {
		s.fail(errNotRemoved)
		return
	}
	switch err := s.srv.forget(s.srv.ctx, n); err {
	case nil:
		s.ok()
	case errNamespaceRemoved:
		s.fail(errNoNamespace)
	default:
		s.srv.trouble("remove what was kept", n.name, err)
		s.fail(errCannotDrop)
	}
}

func (s *session) keptKeys(n *namespace, eng *zdb.Namespace, args [][]byte) error {
	var prefix, lower []byte
	count := scanPage
	if len(args) > 0 {
		prefix = args[0]
		lower = prefix
	}
	if len(args) > 1 && len(args[1]) > 0 {
		if !bytes.HasPrefix(args[1], prefix) {
			s.fail(errCursor)
			return nil
		}
		lower = after(n.inside(args[1]))
	}
	if len(args) > 2 {
		c, err := strconv.Atoi(string(args[2]))
		if err != nil || c < 1 {
			s.fail(errCount)
			return nil
		}
		count = min(c, scanPageMax)
	}
	if len(args) > 3 || n.sequential() && len(prefix) > 0 {
		s.fail(errArguments)
		return nil
	}
	if n.sequential() && lower == nil {
		lower = firstID
	}
	o := zdb.IterOptions{Lower: lower, Upper: behindPrefix(prefix)}
	page, err := deletedPage(s.srv.ctx, eng, o, count+1)
	if set := n.set.Load(); err == nil && set.isRemoved() {
		// Here all keys went, at the latest with the namespace.
		var rest []goneKey
		if rest, err = presentPage(s.srv.ctx, eng, o, count+1, set.Removed); err == nil {
			page = append(page, rest...)
			slices.SortFunc(page, func(a, b goneKey) int { return bytes.Compare(a.key, b.key) })
		}
	}
	if err != nil {
		return err
	}
	for i := range page {
		page[i].key = n.outside(page[i].key)
	}
	s.array(2)
	if len(page) > count {
		page = page[:count]
		s.bulk(page[count-1].key)
	} else {
		s.null()
	}
	s.array(len(page))
	for _, g := range page {
		s.array(4)
		s.bulk(g.key)
		s.integer(g.deleted.UnixMilli())
		s.integer(g.written.UnixMilli())
		s.integer(g.length)
	}
	return nil
}

// A goneKey is a key, as the engine has it, that is no more.
type goneKey struct {
	key              []byte
	deleted, written time.Time
	length           int64
}

// deletedPage lists keys that were deleted.
func deletedPage(ctx context.Context, eng *zdb.Namespace, o zdb.IterOptions, most int) (page []goneKey, err error) {
	it, err := eng.NewDeletedIter(ctx, o)
	if err != nil {
		return nil, err
	}
	for ok := it.Seek(nil); ok && len(page) < most; ok = it.Next() {
		page = append(page, goneKey{bytes.Clone(it.Key()), it.Deleted().Time, it.Last().Time, it.Last().Length})
	}
	return page, errors.Join(it.Err(), it.Close())
}

// presentPage lists keys that were there until the namespace went.
func presentPage(ctx context.Context, eng *zdb.Namespace, o zdb.IterOptions, most int, removed time.Time) (page []goneKey, err error) {
	o.KeysOnly = true
	it, err := eng.NewIter(ctx, o)
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok && len(page) < most; ok = it.Next() {
		e, err := it.Entry()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		page = append(page, goneKey{bytes.Clone(e.Key), removed, e.Time, int64(e.Location.Length)})
	}
	return page, errors.Join(it.Err(), it.Close())
}

func (s *session) keptVersions(n *namespace, eng *zdb.Namespace, args [][]byte) error {
	var before uint64
	var err error
	if len(args) == 2 {
		before, err = strconv.ParseUint(string(args[1]), 10, 64)
	}
	if len(args) < 1 || len(args) > 2 || err != nil || !n.mayBeKey(args[0]) {
		s.fail(errArguments)
		return nil
	}
	list, err := eng.History(s.srv.ctx, n.inside(args[0]), zdb.Seq(before), keptVersions)
	if err != nil {
		return err
	}
	s.array(len(list))
	for _, v := range list {
		s.array(4)
		s.text(strconv.FormatUint(uint64(v.Seq), 10))
		s.integer(v.Time.UnixMilli())
		deleted := int64(0)
		if v.Deleted {
			deleted = 1
		}
		s.integer(deleted)
		s.integer(v.Length)
	}
	return nil
}

func (s *session) keptGet(n *namespace, eng *zdb.Namespace, args [][]byte) error {
	if len(args) != 2 || !n.mayBeKey(args[0]) {
		s.fail(errArguments)
		return nil
	}
	seq, err := strconv.ParseUint(string(args[1]), 10, 64)
	if err != nil || seq == 0 || seq == ^uint64(0) {
		s.fail(errArguments)
		return nil
	}
	hold := eng.Hold() // compaction leaves what the list refers to
	defer hold.Release()
	list, err := eng.History(s.srv.ctx, n.inside(args[0]), zdb.Seq(seq+1), 1)
	if err != nil {
		return err
	}
	if len(list) == 0 || uint64(list[0].Seq) != seq || list[0].Deleted {
		s.fail(errKeyNotFound)
		return nil
	}
	value := make([]byte, list[0].Length)
	if len(value) > 0 {
		if _, err := eng.ReadLocation(s.srv.ctx, list[0].Location, 0, value); err != nil {
			return err
		}
	}
	s.bulk(value)
	return nil
}

// mayBeKey says whether a client's key can be one of the namespace.
func (n *namespace) mayBeKey(key []byte) bool {
	if n.sequential() {
		return len(key) == idSize
	}
	return len(key) > 0 && len(key) <= maxKey
}
