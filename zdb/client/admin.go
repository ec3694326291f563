package client

import (
	"context"
	"strconv"
	"strings"

	"qsfs/zdb/resp"
)

// Info is a text of "key: value" lines, as INFO and NSINFO answer it, by key.
type Info map[string]string

// Int returns a number of the text, 0 when it is missing or none.
func (i Info) Int(key string) int64 {
	n, err := strconv.ParseInt(i[key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (c *Client) info(ctx context.Context, name string, args ...[]byte) (Info, error) {
	v, err := c.Do(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	if v.Kind != resp.Bulk {
		return nil, unexpected(v)
	}
	return parseInfo(v.Data), nil
}

func parseInfo(text []byte) Info {
	info := Info{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": "); ok && !strings.HasPrefix(line, "#") {
			info[key] = value
		}
	}
	return info
}

// Info returns what the server says of itself.
func (c *Client) Info(ctx context.Context) (Info, error) { return c.info(ctx, "INFO") }

// NSInfo returns what the server says of a namespace, which need not be the Client's own.
func (c *Client) NSInfo(ctx context.Context, name string) (Info, error) {
	return c.info(ctx, "NSINFO", []byte(name))
}

// Traffic is what a server has done since it started, for all clients together. Its own counters are of the whole
// server; Gets to SetBytes exist per namespace too.
type Traffic struct {
	Commands int64
	BytesIn  int64 // read from clients, framing included
	BytesOut int64 // written to clients, framing included
	Gets     int64 // values served by GET and MGET
	GetBytes int64 // their payload
	Sets     int64 // values taken by SET and CAS
	SetBytes int64 // their payload
}

// Traffic returns the server's counters.
func (c *Client) Traffic(ctx context.Context) (Traffic, error) {
	i, err := c.Info(ctx)
	return Traffic{
		Commands: i.Int("commands"), BytesIn: i.Int("bytes_in"), BytesOut: i.Int("bytes_out"),
		Gets: i.Int("gets"), GetBytes: i.Int("get_bytes"), Sets: i.Int("sets"), SetBytes: i.Int("set_bytes"),
	}, err
}

// NSNew makes a namespace. It needs admin rights, as NSDel and NSSet do.
func (c *Client) NSNew(ctx context.Context, name string) error {
	_, err := c.Do(ctx, "NSNEW", []byte(name))
	return err
}

// NSDel removes a namespace with all its data.
func (c *Client) NSDel(ctx context.Context, name string) error {
	_, err := c.Do(ctx, "NSDEL", []byte(name))
	return err
}

// NSSet sets a property of a namespace: password, maxsize, public, worm, lock or freeze.
func (c *Client) NSSet(ctx context.Context, name, property, value string) error {
	_, err := c.Do(ctx, "NSSET", []byte(name), []byte(property), []byte(value))
	return err
}

// NSList returns the names of the namespaces.
func (c *Client) NSList(ctx context.Context) ([]string, error) {
	v, err := c.Do(ctx, "NSLIST")
	if err != nil {
		return nil, err
	}
	if v.Kind != resp.Array {
		return nil, unexpected(v)
	}
	names := make([]string, 0, len(v.Array))
	for _, e := range v.Array {
		names = append(names, string(e.Data))
	}
	return names, nil
}
