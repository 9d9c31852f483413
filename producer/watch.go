package producer

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sheafml/sheaf/model"
)

// announcements is the part of the queue that Watch needs.
type announcements interface {
	WatchAnnouncements(ctx context.Context, fn func(key string, value []byte)) error
}

// Watch keeps the catalog in step with what workers announce. It returns when the announcements that stand have been
// taken in; changes go on until ctx ends. An announcement that cannot be read is logged and left out.
func Watch(ctx context.Context, q announcements, models *model.Catalog, logger *slog.Logger) error {
	err := q.WatchAnnouncements(ctx, func(key string, value []byte) {
		if value == nil {
			models.Delete(key)
			return
		}
		info, err := model.ParseInfo(value)
		if err != nil {
			logger.Warn("ignoring a model's announcement", "key", key, "error", err)
			return
		}
		models.Put(info)
	})
	if err != nil {
		return fmt.Errorf("watch the announced models: %w", err)
	}
	return nil
}
