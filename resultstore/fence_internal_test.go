package resultstore

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// pipelines counts what is sent.
type pipelines struct{ n atomic.Int32 }

func (p *pipelines) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (p *pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.n.Add(1)
		return next(ctx, cmds)
	}
}

// TestAFoundRecordIsConfirmedInOnePipeline: were the question for the replicas' word sent apart, it could go to another
// primary after a fail-over, which has never seen the record.
func TestAFoundRecordIsConfirmedInOnePipeline(t *testing.T) {
	primary := testserver.StartRedis(t, testserver.RedisOptions{})
	testserver.StartRedisReplica(t, primary)
	cfg := DefaultConfig()
	cfg.URL, cfg.WaitReplicas = "redis://"+primary.Addr, 1
	r, err := OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	entry := []Entry{{ID: job.ID{1}, Record: []byte("a record")}}
	if _, err := r.Finish(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	sent := &pipelines{}
	r.client.AddHook(sent)
	for _, record := range []string{"a record", "another"} {
		sent.n.Store(0)
		entry[0].Record = []byte(record)
		o, err := r.Finish(t.Context(), entry)
		if err != nil || o[0].Err != nil || o[0].Won != (record == "a record") {
			t.Errorf("%s: %+v, %v", record, o, err)
		}
		if n := sent.n.Load(); n != 1 {
			t.Errorf("%s: %d pipelines, want one", record, n)
		}
	}
}
