// Keeps a scrolling element at its end while its content grows, and lets go as soon as the reader scrolls up.

const END_TOLERANCE_PX = 2; // scroll positions are fractional on zoomed pages

export class Follower {
  #scroller;
  #onChange;
  #isFollowing = true;
  #lastTop = 0;

  constructor(scroller, content, onChange) {
    this.#scroller = scroller;
    this.#onChange = onChange;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // An observer runs after layout and before paint: the reader never sees the text below the edge first.
    const observer = new ResizeObserver(() => this.#isFollowing && this.#goToEnd());
    observer.observe(scroller);
    observer.observe(content);
  }

  resume() {
    this.#setFollowing(true);
    this.#goToEnd();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const isAtEnd = scrollHeight - clientHeight - scrollTop <= END_TOLERANCE_PX;
    if (isAtEnd) this.#setFollowing(true);
    else if (scrollTop < this.#lastTop) this.#setFollowing(false);
    this.#lastTop = scrollTop;
  }

  #goToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#lastTop = this.#scroller.scrollTop;
  }

  #setFollowing(isFollowing) {
    if (isFollowing === this.#isFollowing) return;
    this.#isFollowing = isFollowing;
    this.#onChange(isFollowing);
  }
}
