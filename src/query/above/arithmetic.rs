//! Binary operators: which kinds of operands meet, and scalars among themselves.

use promql::ast::{BinaryOp, ValueType};

use crate::query::Error;
use crate::query::above::Evaluator;
use crate::query::exec::operator;
use crate::query::frame::{Frame, Steps};
use crate::query::plan::logical::{Binary, Node};
use crate::query::plan::physical::Map;

impl Evaluator<'_> {
    pub(super) async fn binary(&mut self, node: &Node, b: &Binary, steps: Steps) -> Result<Frame, Error> {
        let is_scalar = |n: &Node| n.value_type == ValueType::Scalar;
        match (is_scalar(&b.lhs), is_scalar(&b.rhs)) {
            (true, true) => {
                let l = self.column(&b.lhs, steps).await?;
                let r = self.column(&b.rhs, steps).await?;
                Ok(Frame::Scalar(
                    l.iter().zip(r.iter()).map(|(l, r)| operator::float(b.op, *l, *r)).collect(),
                ))
            }
            (scalar_is_left, true) | (scalar_is_left @ true, false) => {
                let (scalar, vector) = if scalar_is_left { (&b.lhs, &b.rhs) } else { (&b.rhs, &b.lhs) };
                let rows = self.rows(vector, steps).await?;
                let scalar = self.column(scalar, steps).await?;
                let map = Map::Operator {
                    op: b.op,
                    scalar,
                    scalar_is_left,
                    return_bool: b.return_bool,
                    span: node.span,
                };
                self.mapped(rows, &map).map(Frame::Rows)
            }
            (false, false) => self.vectors(node, b, steps).await.map(Frame::Rows),
        }
    }

    async fn vectors(
        &mut self,
        node: &Node,
        b: &Binary,
        steps: Steps,
    ) -> Result<Vec<crate::query::frame::Row>, Error> {
        let lhs = self.rows(&b.lhs, steps).await?;
        let rhs = self.rows(&b.rhs, steps).await?;
        let Some(matching) = &b.matching else {
            return Err(Error::Execution("vectors meet without matching".into()));
        };
        match b.op {
            BinaryOp::And => Ok(super::sets::and(lhs, &rhs, matching, steps)),
            BinaryOp::Unless => Ok(super::sets::unless(lhs, &rhs, matching, steps)),
            BinaryOp::Or => super::sets::or(lhs, rhs, matching, steps),
            _ => {
                let operation = super::matching::Operation {
                    op: b.op,
                    matching,
                    return_bool: b.return_bool,
                    span: node.span,
                    steps,
                    delayed_name_removal: self.settings.delayed_name_removal,
                };
                operation.apply(lhs, rhs, &mut self.notes)
            }
        }
    }
}
