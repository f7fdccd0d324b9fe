package differential

import (
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// dates are Releases whose Date or Valid-Until is not what a tidy generator writes. apt
// warns of a Date that it cannot read and goes on (debReleaseIndex::Load); what it can read
// is in RFC1123StrToTime and FullDateToTime.
func dates() []row {
	dated := func(name string, layout func(t time.Time) string) row {
		return edit("Date "+name, func(gen int, text string) string {
			return set(drop(text, "Date"), "Date", layout(date(gen).UTC()))
		})
	}
	in := func(name, layout string) row {
		return dated(name, func(t time.Time) string { return t.Format(layout) })
	}
	validUntil := func(name, value string, settings ...string) row {
		r := edit("Valid-Until "+name, func(_ int, text string) string { return add(text, "Valid-Until: "+value) })
		r.settings = settings
		return r
	}
	past := "Tue, 03 Jan 2023 08:09:10 UTC"

	unreadable := validUntil("that nobody can read", "2099-01-01 00:00:00 UTC")
	unreadable.refused = true
	expired := validUntil("past", past)
	expired.refused = true
	inOption := validUntil("past, check-valid-until=no in sources.list", past)
	inOption.sources = "deb [signed-by=KEYRING check-valid-until=no] URL noble main"
	ahead := dated("in two hours, check-date=no in sources.list", func(t time.Time) string {
		return t.Add(4 * time.Hour).Format(time.RFC1123)
	})
	ahead.sources = "deb [signed-by=KEYRING check-date=no] URL noble main"
	ahead.node = "max_future: 24h"
	aheadTwo := ahead
	aheadTwo.name, aheadTwo.from = "Date ahead only in generation 2, check-date=no in sources.list", 2
	lateISO := in("in ISO form, only in generation 2", "2006-01-02 15:04:05 MST")
	lateISO.from = 2
	lateISO.everywhere = true
	none := row{name: "no Date", suite: testarchive.Suite{NoDate: true}}
	noneLate := row{name: "no Date, only in generation 2", from: 2, odd: func(_ int, s *testarchive.Suite) { s.NoDate = true }}
	tidyAgain := edit("Date in ISO form, only in generation 1", func(gen int, text string) string {
		if gen == 1 {
			return set(text, "Date", date(gen).UTC().Format("2006-01-02 15:04:05 MST"))
		}
		return text
	})
	older := dated("before that of generation 1, which nobody can read", func(t time.Time) string { return "yesterday" })
	same := edit("Date twice", func(gen int, text string) string {
		return add(text, "Date: "+date(gen).Add(-time.Minute).UTC().Format(time.RFC1123))
	})
	return []row{
		dated("in Chinese", func(t time.Time) string { return "三, 25 12月 2019 13:34:43 UTC" }),
		in("in ISO form", "2006-01-02 15:04:05 MST"),
		in("in RFC 3339", time.RFC3339),
		in("month first", "Mon, Jan 02 2006 15:04:05 -0700"),
		in("as asctime", time.ANSIC),
		dated("of RFC 850", func(t time.Time) string { return strings.Replace(t.Format(time.RFC850), "UTC", "GMT", 1) }),
		in("in a named zone", "Mon, 02 Jan 2006 15:04:05 CEST"),
		dated("two hours east", func(t time.Time) string {
			return t.In(time.FixedZone("", 7200)).Format(time.RFC1123Z)
		}),
		in("with a zone of zeros", "Mon, 02 Jan 2006 15:04:05 -0700"),
		in("in GMT", "Mon, 02 Jan 2006 15:04:05 GMT"),
		in("in Z", "Mon, 02 Jan 2006 15:04:05 Z"),
		in("without a zone", "Mon, 02 Jan 2006 15:04:05"),
		in("without a weekday", "02 Jan 2006 15:04:05 MST"),
		in("with a short hour", "Mon, 2 Jan 2006 3:04:05 MST"),
		in("with two spaces before the day", "Mon, _2 Jan 2006 15:04:05 MST"),
		in("without seconds", "Mon, 02 Jan 2006 15:04 MST"),
		in("on the wrong weekday", "Xyz, 02 Jan 2006 15:04:05 MST"),
		in("with a long month", "Mon, 02 January 2006 15:04:05 MST"),
		dated("in capitals", func(t time.Time) string { return strings.ToUpper(t.Format(time.RFC1123)) }),
		dated("as a number", func(t time.Time) string { return "1735689600" }),
		dated("empty", func(t time.Time) string { return "" }),
		none, noneLate, lateISO, tidyAgain, older, same,
		validUntil("as asctime", "Fri Jan  2 08:09:10 2099"),
		validUntil("past, Check-Valid-Until off", past, `Acquire::Check-Valid-Until "false";`),
		validUntil("past, Min-ValidTime long", past, `Acquire::Min-ValidTime "999999999";`),
		validUntil("far away", "Thu, 31 Dec 2099 23:59:59 UTC"),
		inOption, expired, unreadable, ahead, aheadTwo,
	}
}
