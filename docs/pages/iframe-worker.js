// Search from file://, where browsers start no workers: one in a hidden frame answers instead.
// Material's offline plugin would load such a script from elsewhere.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.body.appendChild(document.createElement("iframe"));
    this.frame.hidden = true;
    const inside = this.frame.contentWindow;
    const script = (address) =>
      new Promise((loaded, failed) => {
        const tag = inside.document.createElement("script");
        Object.assign(tag, { src: address, onload: loaded, onerror: failed });
        inside.document.head.appendChild(tag);
      });
    // What the worker says is heard here; what it imports is loaded one after the other.
    inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    inside.importScripts = (...addresses) =>
      addresses.reduce((before, each) => before.then(() => script(each)), Promise.resolve());
    this.ready = script(url);
  }

  postMessage(data) {
    const inside = this.frame.contentWindow;
    this.ready.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
