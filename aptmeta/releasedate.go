package aptmeta

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// parseDate reads the dates that apt reads and no others (RFC1123StrToTime,
// apt-pkg/contrib/strutl.cc): those of RFC 1123, of RFC 850 and of C's asctime, in UTC. The year
// of RFC 850 is counted from 1900, as apt does it.
func parseDate(value []byte) (time.Time, bool) {
	d := dateScanner{rest: value}
	weekday := strings.ToLower(d.word())
	if len(weekday) < 3 || !strings.Contains(" sun mon tue wed thu fri sat ", " "+weekday[:3]+" ") {
		return time.Time{}, false
	}
	var day, year int
	var month, clock string
	zone := "UTC"
	switch {
	case len(weekday) == 3: // Sun Nov  6 08:49:37 1994
		month, day, clock, year = d.word(), d.number(), d.word(), d.number()
	case !strings.HasSuffix(weekday, ","):
		return time.Time{}, false
	case len(weekday) == 4: // Sun, 06 Nov 1994 08:49:37 GMT
		day, month, year, clock, zone = d.number(), d.word(), d.number(), d.word(), d.word()
	default: // Sunday, 06-Nov-94 08:49:37 GMT
		parts := strings.Split(d.word(), "-")
		clock, zone = d.word(), d.word()
		if len(parts) != 3 {
			return time.Time{}, false
		}
		var err1, err2 error
		day, err1 = strconv.Atoi(parts[0])
		year, err2 = strconv.Atoi(parts[2])
		d.failed = d.failed || err1 != nil || err2 != nil
		month, year = parts[1], year+1900
	}
	if d.failed || len(d.rest) > 0 || !isUTC(zone) || day < 1 || day > 31 || year < 0 || year > 9999 {
		return time.Time{}, false
	}
	hour, minute, second, ok := parseClock(clock)
	return time.Date(year, monthOf(month), day, hour, minute, second, 0, time.UTC), ok
}

// dateScanner takes words and numbers off a text, as an istream of C++ does.
type dateScanner struct {
	rest   []byte
	failed bool
}

func (d *dateScanner) word() string {
	d.rest = bytes.TrimLeft(d.rest, aptSpace)
	n := bytes.IndexAny(d.rest, aptSpace)
	if n < 0 {
		n = len(d.rest)
	}
	return d.take(n)
}

// number takes the digits that a number begins with; what follows them is the next word.
func (d *dateScanner) number() int {
	d.rest = bytes.TrimLeft(d.rest, aptSpace)
	n := 0
	for n < len(d.rest) && (d.rest[n] >= '0' && d.rest[n] <= '9' || n == 0 && d.rest[n] == '+') {
		n++
	}
	number, err := strconv.Atoi(d.take(n))
	d.failed = d.failed || err != nil
	return number
}

func (d *dateScanner) take(n int) string {
	taken := string(d.rest[:n])
	d.rest = d.rest[n:]
	d.failed = d.failed || n == 0
	return taken
}

func isUTC(zone string) bool {
	if zone == "GMT" || zone == "UTC" || zone == "Z" {
		return true
	}
	n, err := strconv.Atoi(zone)
	return err == nil && n == 0
}

// monthOf looks at as few letters as apt does (MonthConv). Anything unknown is January.
func monthOf(name string) time.Month {
	name = strings.ToLower(name) + "\x00\x00\x00"
	switch name[0] {
	case 'a':
		if name[1] == 'p' {
			return time.April
		}
		return time.August
	case 'd':
		return time.December
	case 'f':
		return time.February
	case 'j':
		switch {
		case name[1] == 'a':
			return time.January
		case name[2] == 'n':
			return time.June
		}
		return time.July
	case 'm':
		if name[2] == 'r' {
			return time.March
		}
		return time.May
	case 'n':
		return time.November
	case 'o':
		return time.October
	case 's':
		return time.September
	}
	return time.January
}

// parseClock reads "%H:%M:%S" as strptime does: one or two digits each, and whatever follows.
func parseClock(clock string) (hour, minute, second int, ok bool) {
	for i, part := range [3]struct {
		value *int
		most  int
	}{{&hour, 23}, {&minute, 59}, {&second, 61}} {
		if i > 0 {
			if clock == "" || clock[0] != ':' {
				return 0, 0, 0, false
			}
			clock = clock[1:]
		}
		n := 0
		for n < len(clock) && n < 2 && clock[n] >= '0' && clock[n] <= '9' {
			n++
		}
		if *part.value, _ = strconv.Atoi(clock[:n]); n == 0 || *part.value > part.most {
			return 0, 0, 0, false
		}
		clock = clock[n:]
	}
	return hour, minute, second, true
}
