package queue

import "context"

// Announce stores a model's announcement under key, e.g. "digits/1". Nothing is written if it stands there already.
func (q *Queue) Announce(ctx context.Context, key string, value []byte) error {
	return q.Bucket(bucketModels).Put(ctx, key, value)
}

// Withdraw deletes an announcement. It is no error if there is none.
func (q *Queue) Withdraw(ctx context.Context, key string) error {
	return q.Bucket(bucketModels).Delete(ctx, key)
}

// WatchAnnouncements is Bucket.Watch for announcements.
func (q *Queue) WatchAnnouncements(ctx context.Context, fn func(key string, value []byte)) error {
	return q.Bucket(bucketModels).Watch(ctx, fn)
}
