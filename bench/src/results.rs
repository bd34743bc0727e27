//! Measured samples, by scenario, number of connections and target.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    measurement::{Sample, Scenario},
    target::Name,
};

/// The scenario, number of connections and target of a measurement.
pub type Key = (Scenario, usize, Name);

/// All samples by key. The samples of a key are in the order of measurement.
#[derive(Default)]
pub struct Results {
    samples: BTreeMap<Key, Vec<Sample>>,
}

/// Median, minimum and maximum of several values.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// Computes the spread of unsorted values; `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max })
    }
}

impl Results {
    /// Adds the next sample of a key.
    pub fn add(&mut self, key: Key, sample: Sample) {
        self.samples.entry(key).or_default().push(sample);
    }

    /// All keys, in the order of scenario, connections and target.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.samples.keys().copied()
    }

    /// The samples of a key; none if nothing was measured for the key.
    pub fn samples(&self, key: Key) -> &[Sample] {
        self.samples.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The spread of one figure over the samples of a key.
    pub fn spread(&self, key: Key, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples(key).iter().map(figure))
    }

    /// The spread of the ratios of two keys' figures, paired in the order of measurement. Omits pairs whose reference figure is 0.
    pub fn ratio(&self, measured: Key, reference: Key, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let pairs = self.samples(measured).iter().zip(self.samples(reference));
        let ratios = pairs.map(|(sample, reference_sample)| figure(sample) / figure(reference_sample));
        // a division by 0 results in infinity or NaN
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// All samples as JSON: an array with one object per key.
    pub fn json(&self) -> Value {
        let rows = self.samples.iter().map(|((scenario, connections, name), samples)| {
            json!({ "target": name.text(), "scenario": scenario.text(), "connections": connections, "rounds": samples })
        });
        Value::Array(rows.collect())
    }
}
