package client

import (
	"context"
	"net/http"
	"time"
)

// FileRequest names a file that is, or is to be, dispersed by itself.
type FileRequest struct {
	// Name of the object. For a store it defaults to the path.
	Name string `json:"name"`
	// Path on this machine: read by a store, written by a retrieve. Absolute.
	Path string `json:"path,omitempty"`
	// Deep: a check reads and verifies every shard instead of asking whether it is there.
	Deep bool `json:"deep,omitempty"`
	// Replace: a store may supersede an object of this name; a retrieve may replace an existing file.
	Replace bool `json:"replace,omitempty"`
}

// FileInfo describes a dispersed file.
type FileInfo struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size"`
	Time       time.Time `json:"time"`
	Generation string    `json:"generation"`
	Code       string    `json:"code"` // "4-of-6"
	Checksum   string    `json:"checksum"`
	Full       bool      `json:"full"`
}

// Files lists the objects made by StoreFile.
func (c *Client) Files(ctx context.Context) ([]FileInfo, error) {
	var out []FileInfo
	err := c.call(ctx, http.MethodGet, "/v1/files", nil, &out)
	return out, err
}

// StoreFile disperses a file under a name of its own.
func (c *Client) StoreFile(ctx context.Context, r FileRequest, progress func(Progress)) error {
	return c.fileCall(ctx, "/v1/store", r, progress)
}

// RetrieveFile writes a dispersed file to a path, whole or not at all.
func (c *Client) RetrieveFile(ctx context.Context, r FileRequest, progress func(Progress)) error {
	return c.fileCall(ctx, "/v1/retrieve", r, progress)
}

// CheckFile looks at every shard of a dispersed file.
func (c *Client) CheckFile(ctx context.Context, r FileRequest, progress func(Progress)) error {
	return c.fileCall(ctx, "/v1/check", r, progress)
}

// RebuildFile restores the missing and damaged shards of a dispersed file.
func (c *Client) RebuildFile(ctx context.Context, r FileRequest, progress func(Progress)) error {
	return c.fileCall(ctx, "/v1/rebuild", r, progress)
}

func (c *Client) fileCall(ctx context.Context, path string, r FileRequest, progress func(Progress)) error {
	return c.streamOf(ctx, path, r, progress)
}
