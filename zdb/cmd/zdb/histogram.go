package main

import (
	"math/bits"
	"time"
)

// A histogram counts latencies in buckets that are at most 1/64 of their value wide.
type histogram struct {
	counts [64 * subBuckets]int64
	total  int64
	max    time.Duration
}

const (
	subBits    = 6
	subBuckets = 1 << subBits
)

func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(ns) - subBits - 1
	return (shift+1)<<subBits + int(ns>>shift) - subBuckets
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i>>subBits - 1
	return (uint64(i&(subBuckets-1))+subBuckets+1)<<shift - 1
}

func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// quantile gives the latency in microseconds that a part q of all does not exceed.
func (h *histogram) quantile(q float64) float64 {
	want, seen := int64(q*float64(h.total)), int64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > want {
			return min(float64(bucketTop(i))/1e3, h.most())
		}
	}
	return h.most()
}

func (h *histogram) most() float64 { return float64(h.max) / 1e3 }
