package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"qsfs/zdb/resp"
)

// An ID is a key of a sequential namespace, where the server numbers the values. Get, Set, Del and the others take its Key.
// Ids only grow; each update of a value uses one up as well, which is never a key.
type ID uint64

// Key is the id as it travels: 8 bytes, little endian.
func (id ID) Key() []byte { return binary.LittleEndian.AppendUint64(nil, uint64(id)) }

// String is the number.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID reads a key of a sequential namespace, as Scan returns it.
func ParseID(key []byte) (ID, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("a key of %d bytes is no id", len(key))
	}
	return ID(binary.LittleEndian.Uint64(key)), nil
}

// Add stores a value in a sequential namespace and returns its id. When it returns nil, the server has made it durable
// (unless it runs with --sync=none). It is not to be repeated after a *ConnError without thought: the value may lie under an id
// that nobody knows.
func (c *Client) Add(ctx context.Context, value []byte) (ID, error) {
	v, err := c.Do(ctx, "SET", nil, value)
	if err != nil {
		return 0, err
	}
	return AddResult(v)
}

// AddResult reads the reply to a SET with an empty key that was sent in a pipeline to a sequential namespace.
func AddResult(v resp.Value) (ID, error) {
	if v.Kind != resp.Bulk || len(v.Data) != 8 {
		return 0, unexpected(v)
	}
	return ParseID(v.Data)
}
