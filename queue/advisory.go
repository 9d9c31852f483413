package queue

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// Where JetStream tells that it delivers a message no more, for each stream and consumer.
var givenUpSubjects = [...]string{
	"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.",
	"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.",
}

// reaperGroup is the queue group in which one process of all hears of each advisory.
const reaperGroup = "sheaf-reaper"

// GivenUp says that JetStream has given up a message. Whoever may publish to JetStream's own subjects could have sent it:
// [Queue.StrandedAt] looks whether it can be true.
type GivenUp struct {
	Lane       job.Lane
	Consumer   string
	Seq        uint64
	Deliveries int
	Time       time.Time
}

// OnGivenUp calls fn for each message that JetStream gives up, in one of all the processes that have called it. fn must
// not block. stop ends it; a call in progress may still be running then.
func (q *Queue) OnGivenUp(fn func(GivenUp)) (stop func(), err error) {
	var subs []*nats.Subscription
	stop = func() {
		for _, s := range subs {
			_ = s.Unsubscribe()
		}
	}
	for _, lane := range job.Lanes() {
		for _, subject := range givenUpSubjects {
			sub, err := q.conn.QueueSubscribe(subject+lane.String()+".>", reaperGroup, func(m *nats.Msg) {
				if g, ok := readAdvisory(lane, m.Data); ok {
					fn(g)
				}
			})
			if err != nil {
				stop()
				return nil, requestError("listen for messages that JetStream gives up", err)
			}
			subs = append(subs, sub)
		}
	}
	// The server must know of it before the caller relies on it.
	if err := q.conn.FlushTimeout(q.cfg.RequestTimeout); err != nil {
		stop()
		return nil, requestError("listen for messages that JetStream gives up", err)
	}
	return stop, nil
}

func readAdvisory(lane job.Lane, body []byte) (GivenUp, bool) {
	var a struct {
		Stream     string    `json:"stream"`
		Consumer   string    `json:"consumer"`
		Seq        uint64    `json:"stream_seq"`
		Deliveries int       `json:"deliveries"`
		Time       time.Time `json:"timestamp"`
	}
	if json.Unmarshal(body, &a) != nil || a.Stream != lane.String() || a.Consumer == "" || a.Seq == 0 {
		return GivenUp{}, false
	}
	return GivenUp{Lane: lane, Consumer: a.Consumer, Seq: a.Seq, Deliveries: max(0, a.Deliveries), Time: a.Time}, true
}
