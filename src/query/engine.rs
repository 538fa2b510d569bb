//! Queries from text to answer: admission, evaluation, the list of those that run.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use model::{Labels, Timestamp};
use promql::ast::ValueType;

use crate::query::Error;
use crate::query::above::{Evaluator, without_dropped_names};
use crate::query::account::{Account, Load, Progress, Statistics, Token};
use crate::query::annotations::Annotations;
use crate::query::frame::{Cell, Frame, Row, Steps};
use crate::query::merge::Shards;
use crate::query::plan::logical::{Bounds, logical};
use crate::query::plan::physical::{MaxResolution, Settings};
use crate::query::value::{Element, SampleValue, Series, Value};
use crate::rt::Moment;

/// How queries are evaluated: flags and configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub language: promql::Options,
    pub lookback_ms: i64,
    /// Samples one query may hold.
    pub samples_max: usize,
    /// Bytes of memory one query may hold.
    pub bytes_max: usize,
    /// Queries evaluated at a time; others wait.
    pub concurrent_max: usize,
    /// Step of subqueries that give none: the global evaluation interval.
    pub subquery_interval_ms: i64,
    pub delayed_name_removal: bool,
    pub type_and_unit_labels: bool,
    pub use_start_timestamps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            language: promql::Options::default(),
            lookback_ms: 300_000,
            samples_max: 50_000_000,
            bytes_max: usize::MAX,
            concurrent_max: 20,
            subquery_interval_ms: 60_000,
            delayed_name_removal: false,
            type_and_unit_labels: false,
            use_start_timestamps: false,
        }
    }
}

/// Queries that may wait for their turn. Each holds its text and a waker, at most some tens of kilobytes.
const WAITING_MAX: usize = 1024;

/// The times a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Instant(Timestamp),
    Range { start: Timestamp, end: Timestamp, step: i64 },
}

#[derive(Clone, Debug)]
pub struct Request {
    pub text: String,
    pub when: When,
    /// Instead of the engine's lookback.
    pub lookback_ms: Option<i64>,
    pub token: Token,
    /// When it was asked, for the list of running queries.
    pub asked: Moment,
    /// Samples are counted for each step, too.
    pub counts_steps: bool,
    pub max_resolution: MaxResolution,
}

impl Request {
    pub fn new(text: impl Into<String>, when: When) -> Request {
        let (lookback_ms, token, asked) = (None, Token::default(), Moment::default());
        let max_resolution = MaxResolution::Fixed(0);
        Request { text: text.into(), when, lookback_ms, token, asked, counts_steps: false, max_resolution }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub value: Value,
    pub notes: Annotations,
    pub statistics: Statistics,
}

/// A query as the list of running ones shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: u64,
    pub text: String,
    pub when: When,
    pub is_waiting: bool,
    pub asked: Moment,
    pub progress: Progress,
}

/// What a query has just done with. Who reads a clock may note the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is parsed and planned.
    Prepared,
    /// Its value is found.
    Evaluated,
    /// The value is in the order that is shown.
    Sorted,
}

struct Entry {
    id: u64,
    request: Request,
    account: Arc<Account>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Queue {
    next_id: u64,
    running: Vec<Entry>,
    waiting: VecDeque<Entry>,
}

pub struct Engine {
    options: Options,
    queue: Mutex<Queue>,
}

/// A query whose turn has come.
pub struct Admitted<'e> {
    place: Place<'e>,
    request: Request,
    account: Arc<Account>,
}

impl Admitted<'_> {
    /// What it uses, while it does.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Evaluates it, telling `done` of each phase that has ended.
    pub async fn evaluate(
        self,
        shards: &dyn Shards,
        done: impl FnMut(Phase) + Send,
    ) -> Result<Answer, Error> {
        self.place.engine.evaluate(&self.request, &self.account, shards, done).await
    }
}

/// A place among the running queries, given back when dropped.
struct Place<'e> {
    engine: &'e Engine,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.engine.leave(self.id);
    }
}

impl Engine {
    pub fn new(options: Options) -> Engine {
        Engine { options, queue: Mutex::new(Queue::default()) }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Entries are moved whole: a panic elsewhere cannot leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queries that run and those that wait, oldest first.
    pub fn list(&self) -> Vec<Listed> {
        let queue = self.queue();
        let listed = |e: &Entry, is_waiting| Listed {
            id: e.id,
            text: e.request.text.clone(),
            when: e.request.when,
            is_waiting,
            asked: e.request.asked,
            progress: e.account.progress(),
        };
        let running = queue.running.iter().map(|e| listed(e, false));
        running.chain(queue.waiting.iter().map(|e| listed(e, true))).collect()
    }

    /// Ends a query; false where there is none of this id.
    pub fn cancel(&self, id: u64) -> bool {
        let mut queue = self.queue();
        let Queue { running, waiting, .. } = &mut *queue;
        let Some(entry) = running.iter_mut().chain(waiting).find(|e| e.id == id) else { return false };
        entry.request.token.cancel();
        if let Some(w) = entry.waker.take() {
            w.wake();
        }
        true
    }

    /// Evaluates a query. It waits where too many run already.
    pub async fn run(&self, request: Request, shards: &dyn Shards) -> Result<Answer, Error> {
        self.admit(request).await?.evaluate(shards, |_| {}).await
    }

    /// Waits for the query's turn.
    pub async fn admit(&self, request: Request) -> Result<Admitted<'_>, Error> {
        let account =
            Arc::new(Account::new(request.token.clone(), self.options.samples_max, self.options.bytes_max));
        let place = self.wait(&request, &account).await?;
        Ok(Admitted { place, request, account })
    }

    async fn wait(&self, request: &Request, account: &Arc<Account>) -> Result<Place<'_>, Error> {
        let id = {
            let mut queue = self.queue();
            let id = queue.next_id;
            queue.next_id += 1;
            let entry = Entry { id, request: request.clone(), account: account.clone(), waker: None };
            if queue.running.len() < self.options.concurrent_max {
                queue.running.push(entry);
            } else if queue.waiting.len() < WAITING_MAX {
                queue.waiting.push_back(entry);
            } else {
                return Err(Error::Busy);
            }
            id
        };
        let place = Place { engine: self, id };
        poll_fn(|cx| {
            let mut queue = self.queue();
            match queue.waiting.iter_mut().find(|e| e.id == id) {
                None => Poll::Ready(Ok(())),
                Some(e) => match e.request.token.check() {
                    Ok(()) => {
                        e.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    Err(Error::Timeout(_)) => Poll::Ready(Err(Error::Timeout("query queue"))),
                    Err(_) => Poll::Ready(Err(Error::Canceled("query queue"))),
                },
            }
        })
        .await?;
        Ok(place)
    }

    /// Gives a place back; the query that has waited longest takes it.
    fn leave(&self, id: u64) {
        let mut queue = self.queue();
        queue.running.retain(|e| e.id != id);
        queue.waiting.retain(|e| e.id != id);
        while queue.running.len() < self.options.concurrent_max {
            let Some(mut next) = queue.waiting.pop_front() else { break };
            if let Some(w) = next.waker.take() {
                w.wake();
            }
            queue.running.push(next);
        }
    }

    async fn evaluate(
        &self,
        request: &Request,
        account: &Account,
        shards: &dyn Shards,
        mut done: impl FnMut(Phase) + Send,
    ) -> Result<Answer, Error> {
        let expr = promql::parse(&request.text, self.options.language).map_err(Error::Parse)?;
        let (bounds, steps) = self.times(request.when);
        check_root(expr.value_type(), request.when)?;
        let node = logical(&expr, &bounds)?;
        let is_instant = matches!(request.when, When::Instant(_));
        let mut evaluator = Evaluator {
            shards,
            settings: Settings {
                lookback: request.lookback_ms.unwrap_or(self.options.lookback_ms),
                delayed_name_removal: self.options.delayed_name_removal,
                type_and_unit_labels: self.options.type_and_unit_labels,
                use_start_timestamps: self.options.use_start_timestamps,
                max_resolution: request.max_resolution,
            },
            account,
            notes: Annotations::default(),
            is_instant,
            load: Load::new(steps.count, request.counts_steps),
            counts_steps: request.counts_steps,
        };
        done(Phase::Prepared);
        let frame = evaluator.eval(&node, steps).await?;
        done(Phase::Evaluated);
        let (notes, load) = (evaluator.notes, evaluator.load);
        let value = if is_instant { instant_value(frame, steps)? } else { range_value(frame, steps)? };
        done(Phase::Sorted);
        Ok(Answer { value, notes, statistics: Statistics { load, samples_peak: account.samples_peak() } })
    }

    fn times(&self, when: When) -> (Bounds, Steps) {
        let (start, end, interval) = match when {
            When::Instant(t) => (t, t, 0),
            When::Range { start, end, step } => (start, end, step),
        };
        let subquery_interval = self.options.subquery_interval_ms;
        (Bounds { start, end, interval, subquery_interval }, Steps::between(start, end, interval))
    }
}

/// Only vectors and scalars have a value at every step.
fn check_root(value_type: ValueType, when: When) -> Result<(), Error> {
    let fits = matches!(value_type, ValueType::Scalar | ValueType::Vector);
    if fits || matches!(when, When::Instant(_)) {
        return Ok(());
    }
    let name = model::quote::quoted(value_type.documented());
    Err(Error::Unfit(format!(
        "invalid expression type {name} for range query, must be Scalar or instant Vector"
    )))
}

fn instant_value(frame: Frame, steps: Steps) -> Result<Value, Error> {
    let time = steps.start;
    Ok(match frame {
        Frame::Scalar(v) => Value::Scalar(time, v.first().copied().unwrap_or(f64::NAN)),
        Frame::Text(t) => Value::String(time, t),
        Frame::Matrix(mut series) => {
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Value::Matrix(series)
        }
        Frame::Rows(rows) => {
            let elements = without_dropped_names(rows)?.into_iter().filter_map(|row| {
                let value = match row.cell(0)? {
                    Cell::Float(v) => SampleValue::Float(v),
                    Cell::Histogram(h) => SampleValue::Histogram(h),
                };
                Some(Element { labels: row.labels, time, value })
            });
            Value::Vector(elements.collect())
        }
    })
}

fn range_value(frame: Frame, steps: Steps) -> Result<Value, Error> {
    let rows = match frame {
        Frame::Scalar(v) => vec![Row::of_floats(Labels::empty(), v)],
        Frame::Rows(rows) => without_dropped_names(rows)?,
        Frame::Matrix(series) => return Ok(Value::Matrix(series)),
        Frame::Text(_) => Vec::new(),
    };
    let mut series: Vec<Series> = crate::query::above::as_series(rows, steps);
    series.retain(|s| !s.floats.is_empty() || !s.histograms.is_empty());
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}
