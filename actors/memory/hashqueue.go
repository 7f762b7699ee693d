package memory

import (
	"slices"
	"sort"
	"time"

	"postern/internal/auth"
)

// hashQueue holds jobs. Domains take turns, and within a domain its users, by when they came; the jobs of
// a user keep their order. The zero value is empty.
type hashQueue struct {
	size    int
	cost    time.Duration // of all jobs, expected
	domains []*domainJobs // that have jobs, the next one first
	named   map[string]*domainJobs
}

// domainJobs is the jobs of a domain's users.
type domainJobs struct {
	name  string
	size  int
	users []*userJobs // that have jobs, the next one first
	named map[string]*userJobs
}

type userJobs struct {
	name  string
	since time.Time  // its place among the users: none before it has a later one
	jobs  []*hashJob // at least one
}

func (q *hashQueue) push(job *hashJob) {
	d := q.named[job.id.Domain]
	if d == nil {
		d = &domainJobs{name: job.id.Domain, named: make(map[string]*userJobs)}
		if q.named == nil {
			q.named = make(map[string]*domainJobs)
		}
		q.named[d.name] = d
		q.domains = append(q.domains, d)
	}
	u := d.named[job.id.User]
	if u == nil {
		u = &userJobs{name: job.id.User, since: job.since}
		d.named[u.name] = u
		d.insert(u)
	}
	u.jobs = append(u.jobs, job)
	d.size++
	q.size++
	q.cost += job.cost
}

// insert adds a user, mostly as the last one.
func (d *domainJobs) insert(u *userJobs) {
	at := len(d.users)
	if at > 0 && d.users[at-1].since.After(u.since) {
		at = sort.Search(at, func(i int) bool { return d.users[i].since.After(u.since) })
	}
	d.users = slices.Insert(d.users, at, u)
}

// take removes a job, and the user and the domain if they have no other.
func (q *hashQueue) take(domain, user, job int) *hashJob {
	d := q.domains[domain]
	u := d.users[user]
	taken := u.jobs[job]
	u.jobs = slices.Delete(u.jobs, job, job+1)
	d.size--
	q.size--
	q.cost -= taken.cost
	if len(u.jobs) == 0 {
		d.users = slices.Delete(d.users, user, user+1)
		delete(d.named, u.name)
	}
	if d.size == 0 {
		q.domains = slices.Delete(q.domains, domain, domain+1)
		delete(q.named, d.name)
	}
	return taken
}

// pop takes the next job whose user has none running. It is nil if there is none.
func (q *hashQueue) pop(running func(auth.Identity) bool) *hashJob {
	for i, d := range q.domains {
		for k, u := range d.users {
			if running(auth.Identity{User: u.name, Domain: d.name}) {
				continue
			}
			q.domains = append(slices.Delete(q.domains, i, i+1), d)
			d.users = slices.Delete(d.users, k, k+1)
			if n := len(d.users); n > 0 && d.users[n-1].since.After(u.since) {
				u.since = d.users[n-1].since
			}
			d.users = append(d.users, u)
			return q.take(len(q.domains)-1, len(d.users)-1, 0)
		}
	}
	return nil
}

// ahead returns how many jobs come before a new one of id, at most, and how many of them are of id.
func (q *hashQueue) ahead(id auth.Identity) (jobs, own int) {
	turns := 0 // of the domain
	if d := q.named[id.Domain]; d != nil {
		if u := d.named[id.User]; u != nil {
			own = len(u.jobs)
		}
		turns = min(d.size, (own+1)*len(d.users))
	}
	jobs = turns
	for _, d := range q.domains {
		if d.name != id.Domain {
			jobs += min(d.size, turns+1)
		}
	}
	return jobs, own
}

// displace removes the last job of the user with the most jobs in the domain with the most, to make
// room for a job of id. It is nil if that would be no fairer than to refuse the job of id.
func (q *hashQueue) displace(id auth.Identity) *hashJob {
	most := 0
	for i, d := range q.domains {
		if d.size > q.domains[most].size {
			most = i
		}
	}
	if len(q.domains) == 0 {
		return nil
	}
	d, longest := q.domains[most], 0
	for k, u := range d.users {
		if len(u.jobs) > len(d.users[longest].jobs) {
			longest = k
		}
	}
	last := len(d.users[longest].jobs) - 1
	own, limit := 0, d.size-1
	switch of := q.named[id.Domain]; {
	case of == d:
		limit = last
		if u := d.named[id.User]; u != nil {
			own = len(u.jobs)
		}
	case of != nil:
		own = of.size
	}
	if own+1 > limit {
		return nil
	}
	return q.take(most, longest, last)
}

// remove takes out the jobs for which out holds, at most most of them. They are shown in the order in which
// each domain and each user has them.
func (q *hashQueue) remove(most int, out func(*hashJob) bool) (removed []*hashJob) {
	for i := 0; i < len(q.domains); i++ {
		d := q.domains[i]
		for k := 0; k < len(d.users); k++ {
			u := d.users[k]
			for n := 0; n < len(u.jobs) && len(removed) < most; n++ {
				if !out(u.jobs[n]) {
					continue
				}
				emptied, gone := len(u.jobs) == 1, d.size == 1
				removed = append(removed, q.take(i, k, n))
				n--
				if emptied {
					k--
					n = len(u.jobs)
				}
				if gone {
					i--
				}
			}
		}
	}
	return removed
}

// all returns all jobs.
func (q *hashQueue) all() (jobs []*hashJob) {
	for _, d := range q.domains {
		for _, u := range d.users {
			jobs = append(jobs, u.jobs...)
		}
	}
	return jobs
}
