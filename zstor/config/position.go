package config

import (
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// positions maps the dotted path of every table and value ("groups[0].name")
// to the line it stands on.
type positions map[string]int

// findPositions walks the syntax of a document that is known to be valid.
func findPositions(doc []byte) positions {
	w := &positionWalker{lines: positions{}, tables: map[string]int{}}
	w.parser.Reset(doc)
	prefix := ""
	for w.parser.NextExpression() {
		switch e := w.parser.Expression(); e.Kind {
		case unstable.Table:
			prefix = w.enter(e, false)
		case unstable.ArrayTable:
			prefix = w.enter(e, true)
		case unstable.KeyValue:
			w.keyValue(prefix, e)
		}
	}
	return w.lines
}

type positionWalker struct {
	parser unstable.Parser
	lines  positions
	tables map[string]int // elements seen of each array of tables
}

// enter resolves the header of a table to a path: a part that names an array
// of tables means its last element.
func (w *positionWalker) enter(e *unstable.Node, array bool) string {
	path, line := "", 0
	for it := e.Key(); it.Next(); {
		path = join(path, string(it.Node().Data))
		line = w.line(it.Node())
		if array && it.IsLast() {
			w.tables[path]++
		}
		if n := w.tables[path]; n > 0 {
			path = index(path, n-1)
		}
	}
	w.lines[path] = line
	return path
}

func (w *positionWalker) keyValue(prefix string, e *unstable.Node) {
	path, line := prefix, 0
	for it := e.Key(); it.Next(); {
		path = join(path, string(it.Node().Data))
		line = w.line(it.Node())
		if _, ok := w.lines[path]; !ok {
			w.lines[path] = line
		}
	}
	w.value(path, line, e.Value())
}

func (w *positionWalker) value(path string, line int, v *unstable.Node) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			w.keyValue(path, it.Node())
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			n := it.Node()
			if n.Kind == unstable.Comment {
				continue
			}
			p := index(path, i)
			if n.Raw.Length > 0 {
				line = w.line(n)
			}
			w.lines[p] = line
			w.value(p, line, n)
			i++
		}
	}
}

func (w *positionWalker) line(n *unstable.Node) int {
	return w.parser.Shape(n.Raw).Start.Line
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// line finds the line of a path, or of the nearest table around it.
func (p positions) line(path string) int {
	for path != "" {
		if l, ok := p[path]; ok {
			return l
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return 0
}
