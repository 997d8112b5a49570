/**
 * A map of at most `entries_max` entries. A new entry past that number forgets the oldest one.
 * Setting the value of a known key does not make the entry any younger.
 */
export class BoundedMap<K, V> extends Map<K, V> {
  constructor(private readonly entries_max: number) {
    super();
  }

  override set(key: K, value: V): this {
    super.set(key, value);
    if (this.size > this.entries_max) this.delete(this.keys().next().value!);
    return this;
  }
}
