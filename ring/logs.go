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

// memberlistLog takes memberlist's log lines, "[WARN] memberlist: …". Its errors
// are warnings of ours: a node that cannot be reached is no error of this one. A bad
// network brings dozens of them; only a few are warnings, the rest is for debugging.
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
	level := slog.LevelDebug
	if prefix, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(prefix, "[") {
		text = rest
		if prefix != "[DEBUG" && prefix != "[INFO" {
			level = slog.LevelWarn
		}
	}
	l.noticeStranger(text)
	l.log(level, "gossip: "+strings.TrimPrefix(text, "memberlist: "))
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
