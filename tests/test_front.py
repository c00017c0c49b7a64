"""A page, its kernel and other threads at the same time: what is shown last is what is true"""
from threading import Event, Thread

import numpy as np

from lrfinder_nb import LossCurve, LRExplorer


def explorer():
    lrs = np.geomspace(1e-5, 10, 100)
    return LRExplorer(LossCurve(lrs, 1/(1 + 30*lrs) + .02*lrs**2))


def test_a_picture_drawn_meanwhile_answers_no_question_that_still_waits():
    "Else the page takes the settings of before for the answer, and its slider jumps back"
    e, began, heard = explorer(), Event(), LRExplorer.heard
    def slow(asked):
        began.set()
        heard(e, asked)
    e.heard = slow
    with e.lock:
        page = Thread(target=setattr, args=(e.front, 'asked', dict(n=7, settings=dict(e.settings, skip_start=20))))
        page.start()
        assert began.wait(10)
        e.draw()      # as the thread does that has found the interval
        assert e.front.reading['settings']['skip_start'] != 20 and e.front.reading['n'] != 7
    page.join(10)
    assert e.front.reading['settings']['skip_start'] == 20 and e.front.reading['n'] == 7


def test_the_picture_in_the_file_is_the_one_of_the_last_move():
    "Two threads renew it, and the first is slow"
    e, begun, go, sent = explorer(), Event(), Event(), []
    class Slow:
        "A display whose first update takes its time"
        def update(self, twin, raw):
            if not begun.is_set():
                begun.set()
                go.wait(.5)      # or until the other has gone past
            sent.append(twin['text/plain'])
            go.set()
    e.front._twin = Slow()
    first = Thread(target=e.front.renew)
    first.start()
    assert begun.wait(10)
    e.controls['rule'].value = 'valley'
    e.front.renew()
    first.join(10)
    assert len({*sent}) == 2 and sent[-1] == repr(e)


def test_what_two_threads_put_is_all_sent():
    "A sweep in the background puts its last picture while the page is being answered"
    e, sending, past, sent = explorer(), Event(), Event(), []
    front, send = e.front, e.front.send_state
    def slow(key=None):
        state = front.get_state(key)
        if not sending.is_set():
            sending.set()
            past.wait(.5)      # or until the other has gone past
        sent.append(state)
        send(key)
    front.send_state = slow
    first = Thread(target=front.put, args=(dict(words='first'),))
    second = Thread(target=lambda: (front.put(dict(words='second')), past.set()))
    first.start()
    assert sending.wait(10)
    second.start()
    for thread in (first, second): thread.join(10)
    assert [state['reading']['words'] for state in sent] == ['first', 'second']
