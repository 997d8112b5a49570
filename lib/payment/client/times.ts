/** Formats times as they are shown and written. */

/** Seconds since 1970 as `2026-01-31T12:00:00Z`. */
export function formatTime(time_s: number): string {
  return new Date(time_s * 1000).toISOString().replace(".000", "");
}

/** Seconds since 1970 as `2026-01-31 12:00`, in local time. */
export function formatLocalTime(time_s: number): string {
  const date = new Date(time_s * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`;
}
