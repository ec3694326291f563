package budget

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestBudgetBoundsWhatIsOut(t *testing.T) {
	b := New(100)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			release, err := b.Write(t.Context(), 30)
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
			release()
			release() // again is harmless
		})
	}
	wg.Wait()
	if b.Peak() != 60 || b.Used() != 0 { // 75 for writes
		t.Errorf("peak %d, used %d", b.Peak(), b.Used())
	}
}

func TestReadsHaveTheirOwnShare(t *testing.T) {
	b := New(100)
	release, err := b.Write(t.Context(), 75)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	r, err := b.Read(t.Context(), 20)
	if err != nil {
		t.Fatal("a read waits for writes")
	}
	r()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.Write(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestMoreThanAllIsGrantedAlone(t *testing.T) {
	b := New(100)
	release, err := b.Write(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if b.Used() != 1000 {
		t.Errorf("used %d", b.Used())
	}
	release()
	if _, err := b.Write(t.Context(), -1); err == nil {
		t.Error("a negative request was granted")
	}
}
