package ring

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

// memberlistLog takes memberlist's log lines, "[WARN] memberlist: …". They are for debugging: what an
// operator has to know of them is said in our own words, here or where the callbacks tell of it. What others
// can bring about as often as they like is a warning now and then only, and for debugging the other times.
type memberlistLog struct {
	logger    *slog.Logger
	limit     *rate.Limiter
	strangers *expiring.Map[string, Stranger] // by IP
}

func newLogs(logger *slog.Logger) (*log.Logger, *memberlistLog) {
	l := &memberlistLog{logger: logger, limit: rate.NewLimiter(rate.Every(time.Minute), 20),
		strangers: expiring.New[string, Stranger](maxStrangers)}
	return log.New(l, "", 0), l
}

// Write implements io.Writer.
func (l *memberlistLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if host, reason, ok := l.noticeStranger(text); ok {
		l.log(slog.LevelWarn, "a machine is kept out of the cluster", "address", host, "reason", reason)
	}
	l.log(slog.LevelDebug, "memberlist says: "+text)
	return len(line), nil
}

func (l *memberlistLog) log(level slog.Level, msg string, args ...any) {
	if level > slog.LevelDebug && !l.limit.Allow() {
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, msg, args...)
}

// warn logs what other nodes can bring about as often as they like.
func (m *Members) warn(msg string, args ...any) { m.logs.log(slog.LevelWarn, msg, args...) }
