package memory

import (
	"slices"

	"postern/internal/auth"
)

// hashQueue holds jobs. Domains take turns, and within a domain its users; the jobs of a user keep
// their order. The zero value is empty.
type hashQueue struct {
	size    int
	domains []*domainJobs // that have jobs, the next one first
}

// domainJobs is the jobs of a domain's users.
type domainJobs struct {
	name  string
	size  int
	users []*userJobs // that have jobs, the next one first
}

type userJobs struct {
	name string
	jobs []*hashJob // at least one
}

func (q *hashQueue) domain(name string) int {
	return slices.IndexFunc(q.domains, func(d *domainJobs) bool { return d.name == name })
}

func (d *domainJobs) user(name string) int {
	return slices.IndexFunc(d.users, func(u *userJobs) bool { return u.name == name })
}

func (q *hashQueue) push(job *hashJob) {
	i := q.domain(job.id.Domain)
	if i < 0 {
		i = len(q.domains)
		q.domains = append(q.domains, &domainJobs{name: job.id.Domain})
	}
	d := q.domains[i]
	k := d.user(job.id.User)
	if k < 0 {
		k = len(d.users)
		d.users = append(d.users, &userJobs{name: job.id.User})
	}
	d.users[k].jobs = append(d.users[k].jobs, job)
	d.size++
	q.size++
}

// take removes a job, and the user and the domain if they have no other.
func (q *hashQueue) take(domain, user, job int) *hashJob {
	d := q.domains[domain]
	u := d.users[user]
	taken := u.jobs[job]
	u.jobs = slices.Delete(u.jobs, job, job+1)
	d.size--
	q.size--
	if len(u.jobs) == 0 {
		d.users = slices.Delete(d.users, user, user+1)
	}
	if d.size == 0 {
		q.domains = slices.Delete(q.domains, domain, domain+1)
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
			d.users = append(slices.Delete(d.users, k, k+1), u)
			return q.take(len(q.domains)-1, len(d.users)-1, 0)
		}
	}
	return nil
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
	own := 0
	if i := q.domain(id.Domain); i >= 0 {
		own = q.domains[i].size
		if i == most {
			own = 0
			if k := d.user(id.User); k >= 0 {
				own = len(d.users[k].jobs)
			}
			if own+1 > last {
				return nil
			}
			return q.take(most, longest, last)
		}
	}
	if own+1 > d.size-1 {
		return nil
	}
	return q.take(most, longest, last)
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
