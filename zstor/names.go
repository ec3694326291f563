package zstor

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"qsfs/zdb/segfile"
	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
)

// Names of objects: "zdbfs-data/17" is a segment, "zdbfs-data/17#4096" a piece of it that begins
// there, "base/3.812" the base taken at a cut, "file/NAME" a file given to zstor store.
const (
	basePrefix = "base/"
	filePrefix = "file/"
)

func segmentObject(k record.SegmentKey) string {
	return k.Namespace + "/" + strconv.FormatUint(uint64(k.Segment), 10)
}

func pieceObject(k record.SegmentKey, from int64) string {
	return fmt.Sprintf("%s#%d", segmentObject(k), from)
}

// segmentOf finds the segment that an object's name belongs to, pieces included.
func segmentOf(object string) (record.SegmentKey, bool) {
	name, _, _ := strings.Cut(object, "#")
	ns, number, ok := strings.Cut(name, "/")
	if !ok || (ns != nsMeta && ns != nsData) {
		return record.SegmentKey{}, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return record.SegmentKey{}, false
	}
	return record.SegmentKey{Namespace: ns, Segment: uint32(n)}, true
}

func (s *Store) dataPath(k record.SegmentKey) string {
	return filepath.Join(s.state, "data", k.Namespace, segfile.ID(k.Segment).DataName())
}

func (s *Store) indexPath(k record.SegmentKey) string {
	return filepath.Join(s.state, "index", k.Namespace, segfile.ID(k.Segment).IndexName())
}

func toHead(h client.Head) record.Head {
	return record.Head{Seq: h.Seq, Needs: h.Needs, Segment: h.Segment, Offset: h.Offset, Incarnation: h.Incarnation, Session: h.Session}
}

func fromHead(h record.Head) client.Head {
	return client.Head{Seq: h.Seq, Needs: h.Needs, Segment: h.Segment, Offset: h.Offset, Incarnation: h.Incarnation, Session: h.Session}
}
