package client

import (
	"context"
	"strconv"
	"time"

	"qsfs/zdb/resp"
)

// What follows is for the admin of a node; it names the namespace, whichever the Client was made with.

// A CompactState is how far a compaction is that Compact began, or how the last one ended.
type CompactState struct {
	Running     bool
	Done, Total int64 // bytes of segments
	Segments    int64 // removed
	Copied      int64 // bytes
	Freed       int64 // bytes
	Failed      bool  // the log of the server has the reason
}

// Compact makes the server begin to give the space of dead entries back; all is about segments where it hardly pays too.
func (c *Client) Compact(ctx context.Context, namespace string, all bool) error {
	args := [][]byte{[]byte(namespace)}
	if all {
		args = append(args, []byte("ALL"))
	}
	_, err := c.Do(ctx, "COMPACT", args...)
	return err
}

// CompactStatus returns how far the compaction is.
func (c *Client) CompactStatus(ctx context.Context, namespace string) (CompactState, error) {
	v, err := c.Do(ctx, "COMPACT", []byte(namespace), []byte("STATUS"))
	if err != nil {
		return CompactState{}, err
	}
	if !row(v, resp.Integer, resp.Integer, resp.Integer, resp.Integer, resp.Integer, resp.Integer, resp.Integer) {
		return CompactState{}, unexpected(v)
	}
	a := v.Array
	return CompactState{
		Running: a[0].Int == 1, Done: a[1].Int, Total: a[2].Int, Segments: a[3].Int, Copied: a[4].Int, Freed: a[5].Int, Failed: a[6].Int == 1,
	}, nil
}

// row says whether v is an array of elements of these kinds.
func row(v resp.Value, kinds ...resp.Kind) bool {
	if v.Kind != resp.Array || len(v.Array) != len(kinds) {
		return false
	}
	for i, k := range kinds {
		if v.Array[i].Kind != k {
			return false
		}
	}
	return true
}

// A DeletedKey is a key that has been deleted and of which a value is kept.
type DeletedKey struct {
	Key              []byte
	Deleted, Written time.Time
	Length           int64 // of the last value
}

// DeletedKeys lists a page of the deleted keys that begin with prefix, in their order. cursor is nil at first and what next
// was then; a nil next says that there are no more.
func (c *Client) DeletedKeys(ctx context.Context, namespace string, prefix, cursor []byte, count int) (keys []DeletedKey, next []byte, err error) {
	v, err := c.Do(ctx, "KEPT", []byte("KEYS"), []byte(namespace), prefix, cursor, strconv.AppendInt(nil, int64(count), 10))
	if err != nil {
		return nil, nil, err
	}
	if v.Kind != resp.Array || len(v.Array) != 2 || v.Array[1].Kind != resp.Array {
		return nil, nil, unexpected(v)
	}
	if v.Array[0].Kind == resp.Bulk {
		next = v.Array[0].Data
	}
	for _, e := range v.Array[1].Array {
		if !row(e, resp.Bulk, resp.Integer, resp.Integer, resp.Integer) {
			return nil, nil, unexpected(e)
		}
		keys = append(keys, DeletedKey{e.Array[0].Data, time.UnixMilli(e.Array[1].Int), time.UnixMilli(e.Array[2].Int), e.Array[3].Int})
	}
	return keys, next, nil
}

// A RemovedNamespace is what a namespace with keep_deleted had when it was emptied or removed. The other functions here
// take its name.
type RemovedNamespace struct {
	Name           string
	Removed, Until time.Time // kept until then
	Bytes          int64     // on disk
}

// RemovedNamespaces lists them, the oldest first.
func (c *Client) RemovedNamespaces(ctx context.Context) ([]RemovedNamespace, error) {
	v, err := c.Do(ctx, "KEPT", []byte("LIST"))
	if err != nil {
		return nil, err
	}
	if v.Kind != resp.Array {
		return nil, unexpected(v)
	}
	list := make([]RemovedNamespace, 0, len(v.Array))
	for _, e := range v.Array {
		if !row(e, resp.Bulk, resp.Integer, resp.Integer, resp.Integer) {
			return nil, unexpected(e)
		}
		list = append(list, RemovedNamespace{string(e.Array[0].Data), time.UnixMilli(e.Array[1].Int), time.UnixMilli(e.Array[2].Int), e.Array[3].Int})
	}
	return list, nil
}

// DropRemoved lets one of them go before its time.
func (c *Client) DropRemoved(ctx context.Context, name string) error {
	_, err := c.Do(ctx, "KEPT", []byte("DROP"), []byte(name))
	return err
}

// A Version is what a key had from some time on.
type Version struct {
	Seq     uint64
	Time    time.Time
	Deleted bool
	Length  int64
}

// Versions lists what is kept of a key, the newest first, below the sequence before; 0 begins with the present one. At
// most 1000 come at once.
func (c *Client) Versions(ctx context.Context, namespace string, key []byte, before uint64) ([]Version, error) {
	v, err := c.Do(ctx, "KEPT", []byte("VERSIONS"), []byte(namespace), key, strconv.AppendUint(nil, before, 10))
	if err != nil {
		return nil, err
	}
	if v.Kind != resp.Array {
		return nil, unexpected(v)
	}
	list := make([]Version, 0, len(v.Array))
	for _, e := range v.Array {
		if !row(e, resp.Bulk, resp.Integer, resp.Integer, resp.Integer) {
			return nil, unexpected(e)
		}
		seq, err := strconv.ParseUint(string(e.Array[0].Data), 10, 64)
		if err != nil {
			return nil, unexpected(e)
		}
		list = append(list, Version{seq, time.UnixMilli(e.Array[1].Int), e.Array[2].Int == 1, e.Array[3].Int})
	}
	return list, nil
}

// VersionValue returns the value of a version that Versions listed; ErrNotFound says that it is not kept any more.
func (c *Client) VersionValue(ctx context.Context, namespace string, key []byte, seq uint64) ([]byte, error) {
	v, err := c.Do(ctx, "KEPT", []byte("GET"), []byte(namespace), key, strconv.AppendUint(nil, seq, 10))
	if err != nil {
		return nil, err
	}
	return BulkResult(v)
}
