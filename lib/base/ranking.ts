/** Items by how much each one holds, in whole units. Finding the one with most takes no search. */
export class Ranking<Item> {
  /** The items that hold as many units as the index says, the longest there first. */
  private readonly byCount: Set<Item>[] = [];
  private count_max = 0;

  /** Says that an item held `before` units and holds `after` now. With 0 it is not listed. */
  move(item: Item, before: number, after: number): void {
    if (before > 0) this.byCount[before]!.delete(item);
    if (after > 0) {
      while (this.byCount.length <= after) this.byCount.push(new Set());
      this.byCount[after]!.add(item);
      this.count_max = Math.max(this.count_max, after);
    }
    while (this.count_max > 0 && this.byCount[this.count_max]!.size === 0) this.count_max--;
  }

  /** The item that holds most, and how much that is. Null where nobody holds anything. */
  first(): { readonly item: Item; readonly count: number } | null {
    if (this.count_max === 0) return null;
    const [item] = this.byCount[this.count_max]!;
    return { item: item!, count: this.count_max };
  }
}
