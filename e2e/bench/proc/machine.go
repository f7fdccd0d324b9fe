package proc

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Busy is the time all cores together have spent at work since boot, and Self
// the part of it this process used. What is left after the server's own share is
// the work of strangers, who spoil a measurement.
type Busy struct {
	At          time.Time
	Total, Self time.Duration
}

// ReadBusy reads the first line of /proc/stat, see proc(5): user, nice, system,
// idle, iowait, irq, softirq, steal.
func ReadBusy() (Busy, error) {
	b := Busy{At: time.Now()}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return b, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return b, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return b, err
		}
		b.Total += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	self, err := readStat(os.Getpid())
	b.Self = self.cpu
	return b, err
}

// Strangers returns how many cores others kept busy between two readings, given
// what the measured server used meanwhile.
func Strangers(from, to Busy, server time.Duration) float64 {
	wall := to.At.Sub(from.At)
	if wall <= 0 {
		return 0
	}
	others := (to.Total - from.Total) - (to.Self - from.Self) - server
	return max(0, others.Seconds()/wall.Seconds())
}

// Describe says in one line what machine this is.
func Describe() string {
	model, memory, kernel := "unknown processor", "", ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			memory = fmt.Sprintf(", %.0f GiB", float64(kib)/(1<<20))
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%s, %d cores%s%s, %s", model, runtime.NumCPU(), memory, kernel, runtime.Version())
}
