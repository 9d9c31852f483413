package model

import (
	"slices"
	"sync"
)

// Catalog holds the models that workers have announced, by name and version. It is safe for concurrent use. The zero
// value is empty and ready; NewCatalog reads better.
type Catalog struct {
	mu     sync.RWMutex
	models map[string][]Info // by name, the highest version first
}

// NewCatalog returns an empty catalog.
func NewCatalog() *Catalog { return &Catalog{} }

// Put adds an announced model, or replaces what stands under the same name and version.
func (c *Catalog) Put(info Info) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.models == nil {
		c.models = make(map[string][]Info)
	}
	// Readers may hold the old slice's elements by value only, so it can be changed in place under the lock.
	versions := c.models[info.Name]
	i, found := slices.BinarySearchFunc(versions, info.Version, byVersionDescending)
	if found {
		versions[i] = info
		return
	}
	c.models[info.Name] = slices.Insert(versions, i, info)
}

// Delete removes the model that was announced under key (see Info.Key). A key that it does not know is nothing to do.
func (c *Catalog) Delete(key string) {
	name, version, err := ParseKey(key)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	versions := c.models[name]
	i, found := slices.BinarySearchFunc(versions, version, byVersionDescending)
	if !found {
		return
	}
	if len(versions) == 1 {
		delete(c.models, name)
		return
	}
	c.models[name] = slices.Delete(versions, i, i+1)
}

// Get returns the named model in the given version, or in its highest if version is empty. The Info's slices and map
// are shared: they must not be changed.
func (c *Catalog) Get(name, version string) (Info, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	versions := c.models[name]
	if len(versions) == 0 {
		return Info{}, false
	}
	if version == "" {
		return versions[0], true
	}
	i, found := slices.BinarySearchFunc(versions, version, byVersionDescending)
	if !found {
		return Info{}, false
	}
	return versions[i], true
}

// Versions returns the versions of the named model, the highest first.
func (c *Catalog) Versions(name string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	versions := make([]string, 0, len(c.models[name]))
	for _, info := range c.models[name] {
		versions = append(versions, info.Version)
	}
	return versions
}

// List returns every announced model, sorted by name, the highest version of each first.
func (c *Catalog) List() []Info {
	c.mu.RLock()
	defer c.mu.RUnlock()
	names := make([]string, 0, len(c.models))
	for name := range c.models {
		names = append(names, name)
	}
	slices.Sort(names)
	var list []Info
	for _, name := range names {
		list = append(list, c.models[name]...)
	}
	return list
}

func byVersionDescending(info Info, version string) int {
	return compareVersions(version, info.Version)
}
