// Package zdb is a storage engine of append-only, checksummed segments with a rebuildable index.
package zdb
