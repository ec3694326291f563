package resp

import "strconv"

// The Append functions write one element behind b and return the longer slice, in the manner of strconv.Append….

// AppendSimple appends a simple string. Line breaks in s would break the framing and become blanks.
func AppendSimple(b []byte, s string) []byte { return appendLine(append(b, '+'), s) }

// AppendError appends an error reply. Line breaks in s become blanks.
func AppendError(b []byte, s string) []byte { return appendLine(append(b, '-'), s) }

func appendLine(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, '\r', '\n')
}

// AppendInt appends an integer reply.
func AppendInt(b []byte, n int64) []byte { return appendHeader(b, ':', n) }

// AppendArray appends the header of an array of n elements; the elements follow by further calls.
func AppendArray(b []byte, n int) []byte { return appendHeader(b, '*', int64(n)) }

// AppendBulkHeader appends the header of a bulk string of n bytes, for callers that bring payload and \r\n themselves.
func AppendBulkHeader(b []byte, n int) []byte { return appendHeader(b, '$', int64(n)) }

func appendHeader(b []byte, kind byte, n int64) []byte {
	b = strconv.AppendInt(append(b, kind), n, 10)
	return append(b, '\r', '\n')
}

// AppendBulk appends a bulk string.
func AppendBulk(b, p []byte) []byte {
	b = append(AppendBulkHeader(b, len(p)), p...)
	return append(b, '\r', '\n')
}

// AppendBulkString appends a bulk string.
func AppendBulkString(b []byte, s string) []byte {
	b = append(AppendBulkHeader(b, len(s)), s...)
	return append(b, '\r', '\n')
}

// AppendNil appends the nil bulk string.
func AppendNil(b []byte) []byte { return append(b, "$-1\r\n"...) }

// AppendCommand appends a request of the given arguments.
func AppendCommand(b []byte, args ...[]byte) []byte {
	b = AppendArray(b, len(args))
	for _, a := range args {
		b = AppendBulk(b, a)
	}
	return b
}

// CommandSize returns an upper bound for the bytes that AppendCommand adds.
func CommandSize(args ...[]byte) int {
	n := 16
	for _, a := range args {
		n += len(a) + 16
	}
	return n
}
