package zdbfs

import (
	"context"
	"fmt"

	"qsfs/zdbfs/internal/meta"
)

// Path returns a path of ino from the root, for people to read: one of several if it has more links, and as it was at
// some moment during the call. What cannot be found out is shown by number.
func (fs *FS) Path(ctx context.Context, ino Ino) string {
	ctx = context.WithoutCancel(ctx)
	path := ""
	for depth := 0; ino != RootIno; depth++ {
		parent, name, err := fs.nameOf(ctx, ino)
		if err != nil || depth == 1000 {
			return fmt.Sprintf("inode %d%s", ino, path)
		}
		path = "/" + name + path
		ino = parent
	}
	if path == "" {
		return "/"
	}
	return path
}

// nameOf returns a name of ino and its directory.
func (fs *FS) nameOf(ctx context.Context, ino Ino) (Ino, string, error) {
	in, err := fs.inode(ctx, ino)
	if err != nil {
		return 0, "", err
	}
	v := in.view()
	fs.table.unpin(in)
	if v.Flags&meta.FlagLinks != 0 && !v.IsDir() {
		// Any of its P rows.
		from := meta.ParentKey(uint64(ino), 0, 0)
		it, err := fs.meta.iter(ctx, from, meta.ParentKey(uint64(ino)+1, 0, 0), true)
		if err != nil {
			return 0, "", err
		}
		defer it.Close()
		if !it.Seek(from) {
			return 0, "", fmt.Errorf("inode %d has no name", ino)
		}
		k, err := meta.ParseKey(it.Key())
		if err != nil {
			return 0, "", err
		}
		v.Parent, v.Cookie = k.B, k.C
	}
	e, err := fs.meta.Get(ctx, meta.DirentKey(v.Parent, v.Cookie))
	if err != nil {
		return 0, "", err
	}
	d, err := meta.DecodeDirent(e.Value)
	if err == nil && d.Ino != uint64(ino) {
		err = fmt.Errorf("inode %d has another name by now", ino)
	}
	return Ino(v.Parent), d.Name, err
}
