package main

// groups are all rows, in the order of the run. The long ones come last, so that a run that is cut short has most rows.
func groups() []group {
	return []group{throughput(), durable(), memoryMillion(), stalls(), disk(), burst(), lookups(), fsyncs(), large(), manyKeys(), sustained()}
}
