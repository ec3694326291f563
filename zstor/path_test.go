package zstor

import (
	"testing"
)

func TestWholePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 40)
	a.fs.write(nsMeta, 3)
	a.mustShip()
	for range 5 {
		a.fs.write(nsData, 90)
		a.fs.write(nsMeta, 7)
		a.mustShip()
	}
	a.fs.seal(nsData)
	a.fs.write(nsData, 20)
	a.fs.seal(nsMeta)
	a.fs.write(nsMeta, 2)
	a.mustShip()
	want := a.fs.snapshot()
	w.eventually("receipt of data 0", func() bool {
		todo, err := a.store.withoutReceipt(nsData)
		return err == nil && len(todo) == 0
	})
	a.kill()

	b := w.recover()
	b.wantRecovered(want)
	b.mustMount()
	b.fs.write(nsMeta, 1)
	b.fs.write(nsData, 10)
	b.mustShip()
	want = b.fs.snapshot()
	c := w.recover()
	c.wantRecovered(want)
}
